"""Numbers that name the runs behind them: from a page back to the records, and there computed again by hand."""

import itertools
import json
import random
import re
from collections import defaultdict
from html import unescape
from pathlib import Path
from statistics import mean, stdev

import pandas as pd
import pytest
from scipy.stats import t

from mlp_lib import plots
from mlp_lib.book import glued
from mlp_lib.datasets import facts
from mlp_lib.paths import REPOSITORY
from mlp_lib.records.behind import Runs, noted, with_runs
from mlp_lib.records.frames import FINAL, by_seed
from mlp_lib.stats.intervals import difference, minus, paired_difference, t_interval

RECORDS = REPOSITORY / "data" / "runs"
SPAN = re.compile(
    r'<span class="behind" data-runs="([^"]+)"(?: data-of="(\w+)")?>((?:[^<]|<span[^>]*>[^<]*</span>)*)</span>'
)
TEXT = re.compile(r"(-?[\d.]+)(?: \[(-?[\d.]+), (-?[\d.]+)\])?(?: \((\d+)%\))?(?: n=(\d+))?")


def frame(**cells: list[float]) -> pd.DataFrame:
    """A run of each seed a cell, with a key that names both."""
    rows = [
        {"key": f"{cell}-{seed}", "seed": seed, "family": cell, "status": "ok", "test_top1": top1}
        for cell, values in cells.items()
        for seed, top1 in enumerate(values)
    ]
    return pd.DataFrame(rows)


# --- from values to texts -------------------------------------------------------------------------------------------


def test_an_estimate_knows_its_runs_through_selection_difference_and_scale():
    rows = frame(a=[1.0, 2.0, 4.0], b=[1.5, 2.5])
    a, b = by_seed(rows, family="a"), by_seed(rows, family="b")
    assert t_interval(a[a > 1.5] / 2).runs == Runs(("a-1", "a-2"), "test_top1")
    both = ("a-0", "a-1", "b-0", "b-1")  # the seeds that both have
    assert paired_difference(a, b).runs == Runs(both, "test_top1")
    assert paired_difference(difference(a, b), b).runs == Runs(both, "test_top1")
    assert minus(paired_difference(a, b), 1.0).runs == Runs(both)  # no mean of test_top1 any more
    assert t_interval([1.0, 2.0]).runs == t_interval(rows["test_top1"]).runs == Runs()  # where keys are not known
    table = with_runs(pd.DataFrame({5: [1.0, 2.0]}, index=["x", "y"]), rows.assign(at=list("xxyyz")), by="at")
    assert t_interval(table[5]).runs == Runs(("a-0", "a-1", "a-2", "b-0"))


def test_a_text_of_two_estimates_names_neither():
    one, other = (t_interval(by_seed(frame(**{cell: [71.23, 75.31]}), family=cell)) for cell in "cd")
    text = one.text()
    assert noted(text) == one.runs and noted("71.2 [1.0, 2.0]") == Runs()
    assert other.text() == text and noted(text) == Runs()


def test_a_table_marks_its_estimates_wherever_they_stand_in_a_cell():
    estimate = t_interval(by_seed(frame(e=[81.17, 83.29]), family="e"))
    cell = f"ours - theirs:<br>{estimate.text()}, 1 diverged"
    html = plots.shown(pd.DataFrame({"n": [2], "comparison": [cell]})).to_html()
    ((keys, of, inner),) = SPAN.findall(html)
    assert keys.split() == ["e-0", "e-1"] and of == "test_top1" and re.sub("<[^>]*>", "", inner) == estimate.text()


# --- from a glued value to a page -----------------------------------------------------------------------------------


def test_prose_names_the_runs_of_what_it_glues_on_its_own_page_and_on_others(tmp_path):
    about = {"scrapbook": {"name": "a-b", "mime_prefix": "p/"}, "runs": {"1.0 [0, 2]": {"keys": ["k"], "of": "x"}}}
    output = {"metadata": about, "data": {"p/text/plain": "'*B* by 1.0 [0, 2]'"}}
    other = {"metadata": {"scrapbook": {"name": "plain", "mime_prefix": "p/"}}, "data": {"p/text/plain": "'1'"}}
    cells = [
        {"cell_type": "code", "source": "`{glue:text}`", "outputs": [output, other]},
        {"cell_type": "markdown", "source": ["It is {glue:text}`a-b`,\n", "{glue:text}`plain`."]},
    ]
    (tmp_path / "n").mkdir()
    (tmp_path / "n" / "one.ipynb").write_text(json.dumps({"cells": cells}), encoding="utf-8")
    (tmp_path / "page.md").write_text("{glue:text}`n/one.ipynb::a-b:s` and {glue:text}`a-b`", encoding="utf-8")
    glued.name_runs(tmp_path)
    in_notebook = json.loads((tmp_path / "n" / "one.ipynb").read_text(encoding="utf-8"))["cells"][1]["source"]
    on_page = (tmp_path / "page.md").read_text(encoding="utf-8")
    for text, rest in ((in_notebook, "{glue:text}`plain`."), (on_page, "{glue:text}`a-b`")):
        assert "*B*" not in text and text.endswith(rest)  # Markdown finds no emphasis in a value
        before, after = text.split('<span class="behind" data-runs="k" data-of="x">')
        assert unescape(before).endswith("*B* by ") and unescape(after).startswith("1.0 [0, 2]</span>")


# --- from a number back to its records ------------------------------------------------------------------------------


def named_numbers(html: str) -> set[tuple[str, tuple[str, ...], str]]:
    """The numbers of a page that are means, or mean differences, of one of a record's final metrics."""
    found = ((re.sub("<[^>]*>", "", inner), tuple(keys.split()), of) for keys, of, inner in SPAN.findall(html))
    return {(unescape(text), keys, of) for text, keys, of in found if of in FINAL}


def metric(key: str, name: str) -> tuple[str, int, float]:
    """All of a run but its seed, the seed, and the metric in the record that stands for the run; a divergence is
    chance."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in RECORDS.glob(f"{key}-*.json")]
    record = min(records, key=lambda r: (r["status"] == "failed", r["time"], -len(r["measures"])))
    cell = re.sub(r'("(?:permute_)?seed": )\d+', r"\1any", json.dumps(record["run"]))  # and those of its parents
    chance = 100 / facts(record["run"]["dataset"]).num_classes
    value = chance if record["status"] == "diverged" else record["metrics"][name]
    return cell, record["run"]["seed"], value


def follows(text: str, keys: tuple[str, ...], of: str) -> bool:
    """Whether a text is the mean over seeds, with its t-interval, of a sum of cells' metrics, each taken once as it is
    or with its sign turned: one cell's mean, the difference of two, the difference of two differences."""
    said, low, high, level, n = TEXT.fullmatch(text).groups()
    cells: dict[str, dict[int, float]] = defaultdict(dict)
    for key in keys:
        cell, seed, value = metric(key, of)
        cells[cell][seed] = value
    seeds = set.intersection(*(set(values) for values in cells.values()))
    near = 0.51 * 10 ** -len(said.partition(".")[2])
    for signs in itertools.product((1, -1), repeat=len(cells)):
        values = [sum(sign * cell[seed] for sign, cell in zip(signs, cells.values(), strict=True)) for seed in seeds]
        half = t.ppf(0.5 + float(level or 95) / 200, len(values) - 1) * stdev(values) / len(values) ** 0.5 if low else 0
        ours = (mean(values), mean(values) - half, mean(values) + half)
        if all(abs(a - float(b)) <= near for a, b in zip(ours, (said, low or said, high or said), strict=True)):
            return n is None or int(n) == len(values)
    return False


@pytest.mark.slow
def test_ten_random_numbers_of_the_book_are_what_their_records_say(html):
    pages = (path.read_text(encoding="utf-8") for path in (html / "notebooks").glob("*.html"))
    numbers = sorted(set().union(*map(named_numbers, pages)))
    assert len(numbers) > 300
    for text, keys, of in random.sample(numbers, 10):
        assert follows(text, keys, of), f"{text} is not what {of} of {', '.join(keys)} gives"


def test_a_number_that_its_records_do_not_give_is_found_out():
    key = next(path.name[:12] for path in sorted(RECORDS.glob("*.json")) if '"status": "ok"' in Path(path).read_text())
    value = metric(key, "test_top1")[2]
    assert follows(f"{value:.1f} n=1", (key,), "test_top1")
    assert not follows(f"{value + 0.2:.1f} n=1", (key,), "test_top1")
