"""What the book's front page shows: which of the five questions are answered today, and a figure of another page."""

import io
import re
from collections.abc import Sequence
from html import escape
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from mlp_lib.chapters import planning
from mlp_lib.chapters.claims import NOT_TESTED, VERDICTS, Verdict
from mlp_lib.chapters.registry import STUDIES
from mlp_lib.records.store import Store

# The paper's five questions, the names with which their studies begin, and the claims that answer them.
QUESTIONS = (
    ("Can an MLP without a vision prior compete when it is scaled?", "rq1", (1, 2, 3, 13, 14, 15)),
    ("What do augmentation, batch size and the optimiser do to it?", "rq2", (4, 12)),
    ("Does its error follow power laws?", "rq3", (5, 6)),
    ("How should compute be divided between parameters and examples?", "rq4", (7,)),
    ("How well do its features transfer?", "rq5", (8, 9, 10, 11)),
)


def questions(verdicts: Sequence[Verdict], folder: str = "") -> pd.DataFrame:
    """A row a question: its claims by verdict, and its chapters as links, those with tested claims first. `folder`:
    where the notebooks' pages are, seen from the page that shows it."""
    words = {verdict.claim: verdict.verdict for verdict in verdicts}
    rows = []
    for text, name, numbers in QUESTIONS:
        tested = [number for number in numbers if words[number] != NOT_TESTED]
        chapters = [study for study in STUDIES.values() if study.name.split("-")[0] == name]
        links = [f'<a href="{folder}{study.page}.html">{study.title}</a>' for study in chapters]
        by_word = {word: [str(number) for number in numbers if words[number] == word] for word in VERDICTS}
        answers = [f"{word}: {', '.join(those)}" for word, those in by_word.items() if those]
        rows.append(
            {
                "question": text,
                "answered today": "<br>".join(answers) if tested else "not yet",
                "chapters": "<br>".join(links) or "none yet",
                "tested": len(tested),
            }
        )
    rows.sort(key=lambda row: row["tested"] == 0)
    return pd.DataFrame(rows).drop(columns="tested")


def shown_results(name: str, store: Store) -> Any:
    """The results of a study, from records, at the preset that its chapter shows."""
    study = STUDIES[name]
    return study.collect(study.presets[planning.pick_preset(study, "auto", store)], planning.from_records(store))


def inline(figure: Figure, told: str) -> str:
    """A figure as HTML with inline SVG, for another page to show; `told` is its alternative text."""
    written = io.StringIO()
    figure.savefig(written, format="svg", metadata={"Date": None})
    svg = re.sub(r"^.*?<svg", f'<svg role="img" aria-label="{escape(told)}"', written.getvalue(), count=1, flags=re.S)
    return f'<div class="wide-drawing on-white" tabindex="0">{svg}</div>'
