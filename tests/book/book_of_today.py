"""Whether a built book is of today's sources."""

from pathlib import Path

from mlp_lib.book.build import MARKER
from mlp_lib.paths import REPOSITORY

SOURCES = ("_config.yml", "_toc.yml", "book", "data/paper", "data/runs", "mlp_lib", "notebooks")


def is_of_today(out: Path, root: Path = REPOSITORY) -> bool:
    """Whether `out` holds a book of the preset "auto" that was finished after its sources were last written."""
    done = out / MARKER
    if not done.is_file() or done.read_text(encoding="utf-8") != "auto":
        return False
    paths = [path for name in SOURCES for path in (root / name, *(root / name).rglob("*")) if path.suffix != ".pyc"]
    # A folder's time tells of what was deleted from it; that of code changes when bytecode is written.
    newest = max(path.stat().st_mtime for path in paths if path.is_file() or path.name == "runs")
    return newest < done.stat().st_mtime
