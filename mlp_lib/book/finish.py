"""What is mended in the pages that jupyter-book wrote: ids that stand twice, and what screen readers need."""

import re
from pathlib import Path

# Sphinx names the body of every exercise and solution alike; nothing links to these names.
REPEATED = re.compile(r' id="(?:exercise|solution)-content(?:-\d+)?"')
HEAD = re.compile(r'<th class="head')
FOLDED = re.compile(r'(<a class="[\w ]*reference internal" href="[^"]*">([^<]*)</a><details[^>]*><summary)>')
CITED = re.compile(r'role="doc-biblioentry"')
PICTURED = re.compile(r'<(figure|div) (class="(?:align-|cell_output )[^>]*>\s*<img)')
WIDE = re.compile(r'<table class="(study-table|dataframe|docutils|table")')


def mend(folder: Path) -> None:
    """Mend every page below `folder`, in place."""
    for page in folder.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        mended = mended_page(text)
        if mended != text:
            page.write_text(mended, encoding="utf-8")


def mended_page(text: str) -> str:
    """A page in which no exercise or solution repeats an id, column heads say that they are such, a table or figure
    that may scroll can be reached by the keyboard, what unfolds a part of the contents has a name, and references are
    items of their list."""
    text = REPEATED.sub("", text)
    text = HEAD.sub('<th scope="col" class="head', text)
    text = FOLDED.sub(lambda found: f'{found[1]} aria-label="Pages of {found[2].strip()}">', text)
    text = CITED.sub('role="listitem"', text)
    text = PICTURED.sub(r'<\1 tabindex="0" \2', text)
    text = text.replace('<div class="wide-drawing">', '<div class="wide-drawing" tabindex="0">')
    return WIDE.sub(r'<table tabindex="0" class="\1', text)
