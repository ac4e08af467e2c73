"""Pages as a browser shows, reads out and prints them: Chromium, without network, after its scripts have run."""

import io
import re
import shutil
import subprocess
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mlp_lib.book import build, pdf
from mlp_lib.paths import REPOSITORY

ROOT = REPOSITORY
CHROMIUM = pdf.find_browser()
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
| two | <span class="behind" data-runs="0123456789ab 0123456789ac" data-of="test_top1">54.2</span> |
| three | <span class="behind" data-runs="0123456789ad">55.3</span> |

```{admonition} Look inside
:class: dropdown
What was folded, with [a link](#a-page).
```
"""
# What WCAG 2.2 asks for at levels A and AA, and the order of headings, in a wide window. In dark mode colours differ,
# and on a phone what scrolls and how large things are.
WIDTHS = {"light": 1300, "dark": 390}
RULES = {
    "light": {
        "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"],
        "rules": {"heading-order": {"enabled": True}},
    },
    "dark": {"runOnly": {"type": "rule", "values": ["color-contrast", "scrollable-region-focusable", "target-size"]}},
}
# What is taken off a page before it is read out, since more of it is like what stays: rows of tables, on the library's
# page its modules, and the contents at the side on all pages but the first.
ALIKE = {
    "rows": "tbody tr:nth-child(n + 9)",
    "modules": "section > section:nth-of-type(n + 6), .bd-toc-nav li:nth-child(n + 6)",
    "side": ".bd-links",
}


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


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pages were not read out or printed")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@contextmanager
def opened(browser, page: Path, **options):
    """A page in a window of its own; leaving fails where it has asked for anything outside of this machine."""
    context = browser.new_context(**options)
    tab, asked = context.new_page(), []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(page.as_uri())
    yield tab
    context.close()
    assert not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]


def violations(browser, page: Path) -> list[str]:
    """What axe-core finds on a page in light and in dark mode."""
    from axe_playwright_python.sync_playwright import Axe

    kept = {"preface": ("modules", "side"), "api": ()}.get(page.stem, ("modules",))
    alike, found = ", ".join(selector for name, selector in ALIKE.items() if name not in kept), []
    for scheme, rules in RULES.items():
        with opened(browser, page, color_scheme=scheme, viewport={"width": WIDTHS[scheme], "height": 800}) as tab:
            assert tab.evaluate("document.documentElement.dataset.theme") == scheme
            tab.evaluate("alike => document.querySelectorAll(alike).forEach(one => one.remove())", alike)
            response = Axe().run(tab, options={**rules, "resultTypes": ["violations"]}).response
        for violation in response["violations"]:
            found += [f"{scheme}: {violation['id']}: {node['html'][:200]}" for node in violation["nodes"]]
    return found


def test_a_small_page_has_no_barrier_in_light_and_dark(small, browser):
    assert not violations(browser, small)


PAGES = [page.with_suffix(".html") for page in build.toc_pages(ROOT)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_of_the_built_book_has_no_barrier_in_light_and_dark(html, page, browser):
    assert not violations(browser, html / page)


def test_a_number_shows_its_runs_to_pointer_and_keyboard(small, browser):
    with opened(browser, small, viewport={"width": 390, "height": 800}) as tab:
        number, second, panel = (
            tab.locator(".behind").first,
            tab.locator(".behind").nth(1),
            tab.locator("#behind-panel"),
        )
        assert panel.is_hidden() and number.get_attribute("role") == "button"
        number.hover()
        assert panel.is_visible() and "54.2 comes from 2 runs" in panel.inner_text()
        box = panel.bounding_box()
        assert 0 <= box["x"] and box["x"] + box["width"] <= 390  # as on a phone
        tab.keyboard.press("Escape")
        assert panel.is_hidden()
        number.focus()
        tab.keyboard.press("ArrowDown")
        assert second.evaluate("it => it === document.activeElement")
        tab.keyboard.press("Enter")
        assert "train --key 0123456789ad --out again" in panel.inner_text()
        assert panel.locator("a").evaluate("it => it === document.activeElement")
        tab.keyboard.press("Escape")
        assert panel.is_hidden() and second.evaluate("it => it === document.activeElement")
        number.click()
        assert panel.is_visible() and number.get_attribute("aria-expanded") == "true"
        tab.locator("article h1").first.click()
        assert panel.is_hidden()


def test_a_printed_page_is_the_article_alone_unfolded(small, browser):
    from pypdf import PdfReader

    with opened(browser, small) as tab:
        assert tab.locator(".bd-sidebar-primary").is_visible() and not tab.get_by_text("What was folded").is_visible()
        printed = tab.pdf()
        tab.emulate_media(media="print")
        assert not any(
            tab.locator(hidden).first.is_visible() for hidden in (".bd-sidebar-primary", ".bd-header-article")
        )
    text = "".join(page.extract_text() for page in PdfReader(io.BytesIO(printed)).pages)
    assert "What was folded" in text and "A page" in text


def test_the_book_is_one_pdf_with_an_outline_and_links_inside(tmp_path, monkeypatch):
    from pypdf import PdfReader

    page = (
        "<!doctype html><title>{0} — Book</title><h1>{0}</h1><a href='{1}.html#x'>to {1}</a> <a href='c.html'>out</a>"
    )
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / f"{name}.html").write_text(page.format(name, other), encoding="utf-8")
    monkeypatch.setattr(build, "toc_pages", lambda root: [Path("a.md"), Path("b.ipynb")])
    book = PdfReader(pdf.write(tmp_path, tmp_path / "out" / "book.pdf"))
    assert [item.title for item in book.outline] == ["a", "b"]
    for number, other in ((0, 1), (1, 0)):
        (link,) = (link.get_object() for link in book.pages[number]["/Annots"])  # what is not in the book leads nowhere
        assert "/A" not in link and link["/Dest"][0] == book.pages[other].indirect_reference


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
