"""The finished book for the tests that read it: the one in `_build` where it is of today's sources, else a new one."""

from pathlib import Path

import pytest
from book_of_today import is_of_today
from filelock import FileLock

from mlp_lib.book import build


@pytest.fixture(scope="session")
def html(tmp_path_factory) -> Path:
    """The folder of the finished book. Built once, whichever of the test processes comes first."""
    if is_of_today(build.ROOT / "_build"):
        return build.ROOT / "_build" / "html"
    out = tmp_path_factory.getbasetemp().parent / "book"
    with FileLock(f"{out}.lock"):
        if not is_of_today(out):
            build.build(out=out)
    return out / "html"
