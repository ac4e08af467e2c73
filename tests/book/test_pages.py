"""Pages as a browser shows them: Chromium, without network, after its scripts have run."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mlp_lib.book import build
from mlp_lib.paths import REPOSITORY

ROOT = REPOSITORY
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: the pages were not looked at in a browser"),
]
A_PAGE = """---
myst:
  html_meta:
    description: "A page with one table and one formula."
---
# A page

$e^{i\\pi} = -1$

| claim | verdict |
|---|---|
| one | supported |
"""


class Loaded(HTMLParser):
    """The addresses from which a page takes scripts, styles, images and frames."""

    def __init__(self, text: str):
        super().__init__()
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        where = {"link": "href", "object": "data"} | dict.fromkeys(("script", "img", "iframe", "source"), "src")
        if values.get(where.get(tag)) and values.get("rel") != "canonical":
            self.addresses.append(values[where[tag]])


def shown(page: Path, folder: Path) -> str:
    """The document of a page after its scripts have run. Every name of a host leads nowhere."""
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={folder}",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--virtual-time-budget=20000",
        "--dump-dom",
    ]
    done = subprocess.run(
        [CHROMIUM, *options, page.as_uri()], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=300, check=True
    )
    text = done.stdout.decode("utf-8")
    remote = [address for address in Loaded(text).addresses if re.match(r"(?!file:)(?:[a-z]+:)?//", address)]
    assert not remote, f"{page.name} asks other hosts: {remote}"
    return text


def heading(text: str) -> str:
    return re.search(r'<h1>([^<]*)<a class="headerlink"', text)[1]


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A book of one page, with the settings, template and style sheets of ours."""
    src = tmp_path_factory.mktemp("small") / "src"
    shutil.copytree(ROOT / "book", src / "book", ignore=shutil.ignore_patterns("*.md"))
    (src / "_config.yml").write_text(build._config(ROOT), encoding="utf-8")
    (src / "_toc.yml").write_text("format: jb-book\nroot: book/page\n", encoding="utf-8")
    (src / "book" / "page.md").write_text(A_PAGE, encoding="utf-8")
    return build.render(src, src.parent).parent / "book" / "page.html"


def test_a_small_page_is_shown_with_its_table_formula_and_card(small, tmp_path):
    text = shown(small, tmp_path)
    assert heading(text) == "A page" and re.search(r"<td[^>]*>(<p>)?supported", text)
    assert "<mjx-container" in text, "the formula was not set by the local MathJax"
    assert '<meta property="og:description" content="A page with one table and one formula.">' in text


@pytest.mark.parametrize(
    "page, title, wanted",
    [
        ("book/preface.html", "Scaling MLPs, reproduced", "<mjx-container"),
        ("notebooks/claims.html", "The claims, judged", "<strong>(?:supported|not supported|inconclusive|not tested)"),
    ],
)
def test_the_built_book_is_shown(html, tmp_path, page, title, wanted):
    text = shown(html / page, tmp_path)
    assert heading(text) == title and re.search(wanted, text)
