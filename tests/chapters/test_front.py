"""The pictures of all claims and of the front page: what they draw is what was judged and recorded."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from mlp_lib.chapters import claims, claims_picture, front
from mlp_lib.stats.intervals import Estimate

JUDGED = [claims.judge(c.number, pd.DataFrame()) for c in claims.paper_claims() if not c.rule]
ONE = claims.Verdict(
    1,
    "not supported",
    {"S-MLP": Estimate(6.0, (5.0, 7.0), 3), "B-MLP": Estimate(20.0, None, 1)},
    checks={"longer": Estimate(2.0, (1.0, 3.0), 3), "wider": Estimate(2.0, (-1.0, 5.0), 3)},
    rule=claims.claim(1).judged_by,
)
NONE = claims.Verdict(2, claims.NOT_TESTED)


def parsed(html: str) -> ElementTree.Element:
    return ElementTree.fromstring(html.replace("&nbsp;", " "))


def test_the_strip_links_each_mark_to_its_chapter_and_an_untested_claim_to_its_row():
    items = parsed(claims_picture.strip([ONE, *JUDGED], "../notebooks/")).findall("li")
    links = [item.find("a").get("href") for item in items]
    assert links[0] == "../notebooks/rq1-from-scratch.html"
    assert links[1] == f"../notebooks/claims.html#claim-{JUDGED[0].claim}"
    assert "not supported, held in 1 of 2 checks" in items[0].find("a").get("aria-label")
    texts = ["".join(item.itertext()) for item in items]
    assert texts[0] == "1✗1/2" and "–" in texts[1]


def test_a_verdict_is_told_without_colour():
    assert len({*claims_picture.MARKS.values()}) == len({*claims_picture.KINDS.values()}) == len(claims.VERDICTS)
    text = claims_picture.forest([ONE, NONE])
    assert "✗</span> <b>not supported</b>" in text and "–</span> <b>not tested</b>" in text


def test_the_forest_draws_interval_bounds_and_the_papers_number_on_one_axis():
    row = parsed(claims_picture.forest([ONE])).find("li")
    assert row.get("id") == "claim-1" and "about +20 points" in "".join(row.itertext())
    s, b, axis = row.findall(".//svg")
    low, high = 0 - 0.08 * 30, 30 + 0.08 * 30  # 0 and the rule's upper bound, with room

    def at(value: float) -> float:
        return pytest.approx(100 * (value - low) / (high - low), abs=0.02)

    def percent(element: ElementTree.Element, *names: str) -> list[float]:
        return [float(element.get(name).rstrip("%")) for name in names]

    by_class = {element.get("class"): element for element in s}
    assert percent(by_class["interval"], "x1", "x2") == [at(5), at(7)]
    assert percent(by_class["mean"], "cx") == [at(6)] and percent(by_class["paper"], "x1") == [at(20)]
    left, width = percent(by_class["asked"], "x", "width")
    assert left == at(10) and left + width == at(30)
    assert "S-MLP: 6.0 [5.0, 7.0] n=3; the rule asks for 10 to 30; the paper has 20" in s.get("aria-label")
    one_run = {element.get("class"): element for element in b}["interval"]
    assert percent(one_run, "x1", "x2") == [at(20), at(20)]  # one run has no interval
    assert [text.text for text in axis] == ["0", "10", "30"]


def test_the_papers_number_stands_with_the_comparison_that_it_is_of():
    assert claims.claim(2).value_of == "without augmentation"
    parts = {"without augmentation": Estimate(2.0, (1.0, 3.0), 3), "with augmentation": Estimate(4.0, (3.0, 5.0), 3)}
    verdict = claims.Verdict(2, "supported", parts, rule=claims.claim(2).judged_by)
    assert claims_picture.forest([verdict]).count('class="paper" x1') == 1


def test_an_untested_claim_says_what_would_test_it():
    for verdict in JUDGED:
        c = claims.claim(verdict.claim)
        assert len(c.would_test.split()) >= 5, f"claim {c.number} has neither a rule nor a test that it would need"
    assert "Would be tested by: " in claims_picture.forest(JUDGED)
    assert "Its runs have no records yet" in claims_picture.forest([NONE])


def test_every_claim_answers_one_question_and_tested_ones_come_first():
    numbers = [number for _, _, those in front.QUESTIONS for number in those]
    assert sorted(numbers) == [c.number for c in claims.paper_claims()]
    verdicts = [claims.Verdict(number, claims.NOT_TESTED) for number in sorted(numbers)]
    verdicts[3] = replace(ONE, claim=4)
    table = front.questions(verdicts, "../notebooks/")
    assert table["question"][0] == front.QUESTIONS[1][0] and table["answered today"][0].startswith("not supported: 4")
    assert set(table["answered today"][1:]) == {"not yet"}
    assert '<a href="../notebooks/rq2-batch-size.html">' in table["chapters"][0]


def test_a_figure_for_another_page_is_told_in_words():
    figure, axis = plt.subplots()
    axis.plot([1, 2], [3, 4])
    html = front.inline(figure, 'a "picture"')
    plt.close(figure)
    assert re.match(
        r'<div class="wide-drawing on-white" tabindex="0"><svg role="img" aria-label="a &quot;picture&quot;"', html
    )
    assert parsed(html).find("{http://www.w3.org/2000/svg}svg") is not None
