"""Numbers on a page that name the runs behind them: in tables and pictures, and where prose glues them.

A number is a `span` of class `behind` with the keys in `data-runs`; book/_static/behind.js shows them.
"""

import re
from collections.abc import Callable
from html import escape, unescape
from typing import Any

import pandas as pd

from mlp_lib.records.behind import Runs, noted, runs_of

# A number with an interval, an n, or both, as estimates write themselves.
WRITTEN = re.compile(
    r"(?:(?:[<>]|&[lg]t;) )?-?\d[\d,.]*(?:e[+-]?\d+)?"
    r"(?: \[[^\]]+\](?: \([\d.]+%\))?(?: n=\d+)?| n=\d+)"
)


def marked(html: str) -> str:
    """HTML whose estimates, as far as their runs are known, name them."""
    pieces = re.split(r"(<[^>]+>)", html)  # text, tag, text, ...
    pieces[::2] = [_replaced(text, span) for text in pieces[::2]]
    return "".join(pieces)


def span(html: str, runs: Runs) -> str:
    """HTML of a number that names these runs."""
    of = f' data-of="{escape(runs.of)}"' if runs.of else ""
    return f'<span class="behind" data-runs="{" ".join(runs.keys)}"{of}>{html}</span>'


def glue(name: str, value: Any, display: bool = True, runs: pd.DataFrame | None = None) -> None:
    """myst_nb's `glue`, whose values name their runs on the page: a text those of its estimates, or as a whole those of
    `runs`, a frame with a column `key`."""
    from myst_nb import glue as plain

    if isinstance(value, str):
        value = _Told(value)
        if runs is None:
            _replaced(value, lambda written, behind: value.runs.setdefault(written, behind) and "")
        else:
            value.runs[value] = runs_of(runs)
    plain(name, value, display=display)


class _Told(str):
    """A text that is kept in a notebook with the runs of its numbers, by what is written of each."""

    def __init__(self, text: str):
        self.runs: dict[str, Runs] = {}

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        runs = {text: behind._asdict() for text, behind in self.runs.items() if behind.keys}
        return {"text/plain": repr(str(self))}, {"runs": runs} if runs else {}


def _replaced(text: str, made: Callable[[str, Runs], str]) -> str:
    """The text with what `made` makes of every estimate whose runs are known."""

    def put(match: re.Match) -> str:
        runs = noted(unescape(match[0]))
        return made(match[0], runs) if runs.keys else match[0]

    return WRITTEN.sub(put, text)
