"""Executed notebooks of an earlier build, for the pages on which nothing can have changed since.

What a page shows depends on its notebook and parameters, on the library, the records and images, the installed packages
and the machine. All of that is in the name under which its executed copy is kept, so a copy is found only where nothing
is other than it was. Who changes words on a page of the book waits for the rendering alone.
"""

import hashlib
import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path

from mlp_lib.datasets import data_root
from mlp_lib.machine import usable_cores
from mlp_lib.paths import PACKAGE, REPOSITORY
from mlp_lib.records.store import default_folder

DEPTH = 2  # of folders in which images are looked for: a set has its files, or those of its archive, there


def state() -> str:
    """A hash of everything but the notebooks that the pages may depend on.

    Of the library it is the contents; of data, records and benchmarks the names, sizes and times of files.
    """
    told = hashlib.sha256()

    def tell(*facts) -> None:
        told.update(repr(facts).encode())

    tell(sys.version, sys.prefix, platform.platform(), usable_cores())
    tell(sorted((found.metadata["Name"], found.version) for found in metadata.distributions()))
    tell(sorted((name, value) for name, value in os.environ.items() if name.startswith("MLP_LIB_")))
    for path in sorted(PACKAGE.rglob("*.py")):
        tell(path.relative_to(PACKAGE).as_posix(), path.read_bytes())
    for folder in sorted({REPOSITORY / "data", REPOSITORY / "benchmarks", data_root(), default_folder()}):
        tell(*_files(folder, DEPTH))
    return told.hexdigest()


def _files(folder: Path, depth: int) -> list[tuple[str, int, int]]:
    """Path, size and time of every file down to so many folders, and of the folders below, in order."""
    found = []
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:  # absent, or not to be read: no page reads anything there
        return [(str(folder), 0, 0)]
    for entry in entries:
        if entry.is_dir() and depth and entry.name != "__pycache__":
            found += _files(Path(entry.path), depth - 1)
        elif entry.is_file() or entry.is_dir():
            about = entry.stat()
            found.append((entry.path, about.st_size, about.st_mtime_ns))
    return found


def place(folder: Path, notebook: Path, parameters: dict, before: str) -> Path:
    """Where in `folder` the executed copy of this notebook with these parameters is kept; `before` is the `state`."""
    told = hashlib.sha256(repr((before, sorted(parameters.items()))).encode() + notebook.read_bytes())
    return folder / f"{notebook.stem}-{told.hexdigest()[:24]}.ipynb"


def keep(executed: dict[Path, Path], folder: Path, before: str) -> None:
    """Make `folder` hold these executed copies, place -> copy, and no others; none at all where the state is no longer
    what it was `before` they were executed."""
    folder.mkdir(parents=True, exist_ok=True)
    same = state() == before
    for path in folder.iterdir():
        if not same or path not in executed:
            path.unlink()
    for where, copy in executed.items() if same else ():
        if not where.exists():
            part = where.with_suffix(".part")
            shutil.copy(copy, part)
            part.replace(where)
