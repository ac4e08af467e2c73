"""The verdicts as pictures for a page: a strip of marks that link to chapters, and a forest plot of all claims.

Both are HTML with inline SVG: text that wraps on a phone, colours of the page's own mode (book/_static/custom.css), and
a mark beside every colour. A verdict is told by its word and its mark, also without colour.
"""

import math
from collections.abc import Sequence
from html import escape

from mlp_lib.chapters.claims import VERDICTS, Claim, Verdict, claim
from mlp_lib.plots.runs_behind import marked
from mlp_lib.stats.intervals import Estimate

MARKS = dict(zip(VERDICTS, ("✓", "✗", "?", "–"), strict=True))
KINDS = dict(zip(VERDICTS, ("yes", "no", "open", "none"), strict=True))  # classes of the style sheet
LINE = 24  # pixels from one comparison of a claim to the next
APART = 9.0  # per cent of the width between two labels of an axis, at least


def strip(verdicts: Sequence[Verdict], folder: str = "") -> str:
    """One mark a claim with its number and robustness, linked to the chapter that judges it, or to the claim's row on
    the claims page where none does. `folder`: where the notebooks' pages are, seen from the page that shows it."""
    items = []
    for verdict in verdicts:
        c = claim(verdict.claim)
        target = f"{folder}{c.chapter}.html" if c.chapter else f"{folder}claims.html#claim-{c.number}"
        told = f"Claim {c.number}: {c.text} {_told(verdict)}."
        small = f"{verdict.held}/{verdict.checked}" if verdict.checked else "&nbsp;"
        items.append(
            f'<li class="verdict-{KINDS[verdict.verdict]}"><a href="{target}" title="{escape(told)}" '
            f'aria-label="{escape(told)}"><span class="number">{c.number}</span><span class="sign">'
            f'{MARKS[verdict.verdict]}</span><span class="held">{small}</span></a></li>'
        )
    return f'<ol class="verdict-strip">{"".join(items)}</ol>'


def _told(verdict: Verdict) -> str:
    return ", ".join(filter(None, (verdict.verdict, verdict.beside)))


def forest(verdicts: Sequence[Verdict]) -> str:
    """A row a claim: its words and the paper's number, every comparison of ours with its interval on an axis of the
    claim's own, the rule's bounds shaded, and the verdict with its robustness. An untested claim says what would test
    it."""
    return f'<ol class="claims-forest">{"".join(_row(verdict) for verdict in verdicts)}</ol>'


def _row(verdict: Verdict) -> str:
    c = claim(verdict.claim)
    tested = {name: part for name, part in verdict.parts.items() if part.n}
    if tested:
        drawn = _bars(c, tested)
    elif c.chapter:
        drawn = '<p class="untested">Its runs have no records yet.</p>'
    else:
        drawn = f'<p class="untested">Would be tested by: {escape(c.would_test)}</p>'
    link = f'<a href="{c.chapter}.html">chapter</a>' if c.chapter else ""
    held = f'<span class="held">{verdict.beside}</span>' if verdict.beside else ""
    return (
        f'<li id="claim-{c.number}" class="verdict-{KINDS[verdict.verdict]}">'
        f'<div class="said"><span class="number">{c.number}</span> {escape(c.text)} '
        f'<span class="paper">Paper: {escape(c.paper_number)}</span></div><div class="drawn">{drawn}</div>'
        f'<div class="word"><span class="sign" aria-hidden="true">{MARKS[verdict.verdict]}</span> '
        f"<b>{verdict.verdict}</b>{held}{link}</div></li>"
    )


def _bars(c: Claim, parts: dict[str, Estimate]) -> str:
    """A line a comparison, all on one axis, which is labelled below."""
    low, high = _reach(c, parts)

    def at(value: float) -> float:
        return round(min(max(100 * (value - low) / (high - low), 0.0), 100.0), 2)

    digits = 1 if high - low > 3 else 2
    lines = [_bar(c, name, part, at, digits) for name, part in parts.items()]
    bounds = {bound for name in parts for bound in c.judged_by.bounds_of(name)}
    return "".join([*lines, _axis({0.0, *bounds}, low, high, at), f'<p class="unit">{escape(c.unit)}</p>'])


def _bar(c: Claim, name: str, part: Estimate, at, digits: int) -> str:
    low, high = c.judged_by.bounds_of(name)
    left, right = at(low), at(high)
    ends = part.interval or (part.mean, part.mean)
    middle, text = LINE / 2, part.text(digits)
    said, paper = f"{name}: {text}; the rule asks for {_between(low, high)}", ""
    if c.value is not None and name.endswith(c.value_of):
        said += f"; the paper has {c.value:g}"
        paper = f'<line class="paper" x1="{at(c.value)}%" x2="{at(c.value)}%" y2="{LINE}"/>'
    return (
        f'<div class="bar"><span class="part">{escape(name)}</span>'
        f'<svg width="100%" height="{LINE}" role="img" aria-label="{escape(said)}"><title>{escape(said)}</title>'
        f'<rect class="asked" x="{left}%" width="{round(right - left, 2)}%" height="{LINE}"/>'
        f'<line class="zero" x1="{at(0)}%" x2="{at(0)}%" y2="{LINE}"/>{paper}'
        f'<line class="interval" x1="{at(ends[0])}%" x2="{at(ends[1])}%" y1="{middle:g}" y2="{middle:g}"/>'
        f'<circle class="mean" cx="{at(part.mean)}%" cy="{middle:g}" r="4"/></svg>'
        f'<span class="text">{marked(escape(text))}</span></div>'
    )


def _between(low: float, high: float) -> str:
    if math.isinf(high):
        return f"more than {low:g}"
    return f"less than {high:g}" if math.isinf(low) else f"{low:g} to {high:g}"


def _reach(c: Claim, parts: dict[str, Estimate]) -> tuple[float, float]:
    """The ends of a claim's axis: every interval, finite bound, 0 and the paper's number, with room on both sides."""
    values = [0.0, *([] if c.value is None else [c.value])]
    for name, part in parts.items():
        values += [part.mean, *(part.interval or ()), *(b for b in c.judged_by.bounds_of(name) if math.isfinite(b))]
    room = 0.08 * ((max(values) - min(values)) or 1.0)
    return min(values) - room, max(values) + room


def _axis(values: set[float], low: float, high: float, at) -> str:
    """Labels at these values, as far as they lie on the axis and have room."""
    labels, last = [], -APART
    for value in sorted(value for value in values if low <= value <= high):
        if at(value) - last >= APART:
            labels.append(f'<text x="{at(value)}%" y="11" text-anchor="middle">{value:g}</text>')
            last = at(value)
    return (
        f'<div class="bar axis"><span class="part"></span><svg width="100%" height="14">{"".join(labels)}</svg></div>'
    )
