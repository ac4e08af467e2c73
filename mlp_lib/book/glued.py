"""Values that prose glues, made to name the runs behind them, in the pages as they are staged.

A notebook keeps the runs of what it glues (`plots.glue`). Where a page glues such a value, the role gives way to HTML
with the same text.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from mlp_lib.plots.runs_behind import span
from mlp_lib.records.behind import Runs

ROLE = re.compile(r"\{glue:text\}`(?:([^`\n]+?)::)?([^`:\n]+)(?::\w*)?`")
Known = Mapping[str, str]  # HTML by name


def name_runs(folder: Path) -> None:
    """Put the runs behind glued values into every page below `folder`: notebooks, executed, and Markdown."""
    notebooks = {path.resolve(): json.loads(path.read_text(encoding="utf-8")) for path in folder.rglob("*.ipynb")}
    known = {path: glued(notebook) for path, notebook in notebooks.items()}
    for path, notebook in notebooks.items():
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown":
                cell["source"] = named("".join(cell["source"]), path, known)
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for path in folder.rglob("*.md"):
        path.write_text(named(path.read_text(encoding="utf-8"), path.resolve(), known), encoding="utf-8")


def glued(notebook: Mapping) -> dict[str, str]:
    """The values that an executed notebook glues with runs behind them, as HTML by name."""
    found = {}
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            about = output.get("metadata", {})
            if "scrapbook" in about and about.get("runs"):
                text = output["data"][about["scrapbook"]["mime_prefix"] + "text/plain"]
                found[about["scrapbook"]["name"]] = _html("".join(text)[1:-1], about["runs"])
    return found


def named(text: str, page: Path, known: Mapping[Path, Known]) -> str:
    """The Markdown of a page with HTML in the place of the values that name runs; code is left as it is."""

    def put(role: re.Match) -> str:
        source = (page.parent / role[1]).resolve() if role[1] else page
        return known.get(source, {}).get(role[2], role[0])

    return ROLE.sub(put, text)


def _html(text: str, kept: Mapping[str, Mapping]) -> str:
    """The text, every character written out so that Markdown finds nothing in it, with its parts that have runs."""
    runs = {part: Runs(tuple(one["keys"]), one["of"]) for part, one in kept.items()}
    parts = re.split(f"({'|'.join(re.escape(part) for part in sorted(runs, key=len, reverse=True))})", text)
    plain = ("".join(f"&#{ord(character)};" for character in part) for part in parts)
    return "".join(span(html, runs[part]) if part in runs else html for part, html in zip(parts, plain, strict=True))
