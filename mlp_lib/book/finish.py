"""What is mended in the pages that jupyter-book wrote: ids that stand twice, and heads of tables without a scope."""

import re
from pathlib import Path

# Sphinx names the body of every exercise and solution alike; nothing links to these names.
REPEATED = re.compile(r' id="(?:exercise|solution)-content(?:-\d+)?"')
HEAD = re.compile(r'<th class="head')
WIDE = re.compile(r'<table class="(study-table|dataframe|docutils)')


def mend(folder: Path) -> None:
    """Mend every page below `folder`, in place."""
    for page in folder.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        mended = mended_page(text)
        if mended != text:
            page.write_text(mended, encoding="utf-8")


def mended_page(text: str) -> str:
    """A page in which no exercise or solution repeats an id, column heads say that they are such, and a table that may
    scroll can be reached by the keyboard."""
    text = REPEATED.sub("", text)
    text = HEAD.sub('<th scope="col" class="head', text)
    return WIDE.sub(r'<table tabindex="0" class="\1', text)
