"""The built book as one PDF, printed by Chromium: its pages in the order of the contents, links between them kept."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mlp_lib.book import build
from mlp_lib.errors import UserError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OPTIONS = (
    "--headless",
    "--disable-gpu",
    "--no-pdf-header-footer",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # a page needs no other host
    "--virtual-time-budget=30000",  # until formulas are set
)


def write(html: Path, out: Path) -> Path:
    """Write the book that was built in `html` to the file `out`, with an outline of its pages; return `out`.

    Raises UserError where no book is built, where Chromium is missing, and where it prints nothing.
    """
    browser = find_browser()
    if browser is None:
        raise UserError("Chromium is not installed, which prints the book (Debian, Ubuntu: apt-get install chromium)")
    pages = [html / page.with_suffix(".html") for page in build.toc_pages(build.ROOT)]
    if missing := [page for page in pages if not page.is_file()]:
        raise UserError(f"there is no {missing[0]}: build the book first, with `make book`")
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        parts = [Path(folder) / f"{i}.pdf" for i in range(len(pages))]
        list(pool.map(lambda both: print_page(browser, *both), zip(pages, parts, strict=True)))
        out.parent.mkdir(parents=True, exist_ok=True)
        _join(pages, parts, out)
    return out


def find_browser() -> str | None:
    """Chromium, or a Chrome; None where there is neither."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def print_page(browser: str, page: Path, out: Path) -> None:
    """Print one page to a PDF. Raises UserError where the browser does not."""
    with tempfile.TemporaryDirectory() as profile:  # apart from the reader's own, and from the other one's
        options = [*OPTIONS, f"--user-data-dir={profile}", f"--print-to-pdf={out}"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            options.append("--no-sandbox")  # as root, Chromium starts only without
        done = subprocess.run(
            [browser, *options, page.resolve().as_uri()], capture_output=True, timeout=300, check=False
        )
    if not out.is_file():
        said = done.stderr.decode("utf-8", errors="replace").strip().splitlines() or ["nothing was said"]
        raise UserError(f"{browser} did not print {page}: {said[-1]}")


def _join(pages: Sequence[Path], parts: Sequence[Path], out: Path) -> None:
    from pypdf import PdfReader, PdfWriter

    writer, starts = PdfWriter(), {}
    for page, part in zip(pages, parts, strict=True):
        reader = PdfReader(part)
        starts[page.resolve()] = len(writer.pages)
        writer.append(reader, import_outline=False)
        title = (reader.metadata and reader.metadata.title) or page.stem
        writer.add_outline_item(title=title.partition(" — ")[0], page_number=starts[page.resolve()])
    for page in writer.pages:
        _turn_inwards(writer, page, starts)
    with out.open("wb") as file:
        writer.write(file)


def _turn_inwards(writer, page, starts: dict[Path, int]) -> None:
    """Links to files of this machine become links within the PDF, or none where the PDF does not hold the file."""
    from pypdf.generic import ArrayObject, NameObject

    kept = ArrayObject()
    for reference in page.get("/Annots") or ():
        link = reference.get_object()
        address = urlsplit((link.get("/A") or {}).get("/URI", ""))
        if address.scheme == "file":
            start = starts.get(Path(unquote(address.path)).resolve())
            if start is None:
                continue
            del link["/A"]
            link[NameObject("/Dest")] = ArrayObject([writer.pages[start].indirect_reference, NameObject("/Fit")])
        kept.append(reference)
    if "/Annots" in page:
        page[NameObject("/Annots")] = kept
