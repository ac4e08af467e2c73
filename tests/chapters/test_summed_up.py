"""The sentence that sums up the study: it counts, and it is English for one, for many and for none."""

import re

import nbformat
import pytest

from mlp_lib.chapters.claims import INCONCLUSIVE, NOT_TESTED, Verdict
from mlp_lib.chapters.summed_up import NUMBERS, summed_up
from mlp_lib.paths import REPOSITORY

WORDS = {"y": "supported", "n": "not supported", "?": INCONCLUSIVE, "-": NOT_TESTED}


def verdicts(marks: str) -> list[Verdict]:
    return [Verdict(number, WORDS[mark]) for number, mark in enumerate(marks, 1)]


@pytest.mark.parametrize(
    ("marks", "plain", "listed"),
    [
        (
            "yyny?-y--------",
            "Of the paper's fifteen claims, six are tested: four are supported, one is not supported and one is "
            "inconclusive. The other nine are not tested yet.",
            "Of the paper's fifteen claims, six are tested: four are supported (1, 2, 4, 7), one is not supported (3) "
            "and one is inconclusive (5). The other nine are not tested yet (6, 8, 9, 10, 11, 12, 13, 14, 15).",
        ),
        (
            "yy?",
            "Of the paper's three claims, three are tested: two are supported and one is inconclusive.",
            "Of the paper's three claims, three are tested: two are supported (1, 2) and one is inconclusive (3).",
        ),
        (
            "-n",
            "Of the paper's two claims, one is tested: one is not supported. The other one is not tested yet.",
            "Of the paper's two claims, one is tested: one is not supported (2). The other one is not tested yet (1).",
        ),
        (
            "---",
            "None of the paper's three claims is tested yet.",
            "None of the paper's three claims is tested yet.",
        ),
    ],
)
def test_it_counts_every_verdict_once(marks, plain, listed):
    assert summed_up(verdicts(marks)) == plain and summed_up(verdicts(marks), listed=True) == listed


def test_numbers_are_words_as_far_as_the_words_go():
    assert NUMBERS[15] == "fifteen" and NUMBERS[20] == "twenty" and len(NUMBERS) == 21
    assert summed_up(verdicts("y" * 21)).startswith("Of the paper's 21 claims, 21 are tested: 21 are supported.")


def test_the_claims_page_and_the_front_page_open_with_it():
    first = nbformat.read(REPOSITORY / "notebooks" / "claims.ipynb", as_version=4).cells[0].source
    paragraphs = first.split("\n\n")
    assert paragraphs[1].startswith("**Question.**")
    assert re.match(r"\{glue:text\}`claims-summed-up-listed`", paragraphs[2])
    front = (REPOSITORY / "book" / "preface.md").read_text(encoding="utf-8").split("\n## ")[0]
    assert "{glue:text}`../notebooks/claims.ipynb::claims-summed-up:s`" in front
