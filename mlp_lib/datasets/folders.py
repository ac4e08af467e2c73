"""Sets of the reader's own in folders of image files: listed, then decoded once for every state of the files."""

import functools
import hashlib
import multiprocessing
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mlp_lib.datasets import decode, pixels
from mlp_lib.datasets.catalogue import Facts
from mlp_lib.datasets.decode import Arrays, Source
from mlp_lib.datasets.names import Name
from mlp_lib.errors import UserError
from mlp_lib.paths import on_one_line, shown, whats_wrong

MOST_DEEP = 100  # folders in folders of a class
RECIPE = 2  # raise it when the same files would be decoded to other pixels
_MAY_MOVE = (".gif", ".png", ".apng", ".webp", ".tif", ".tiff", ".avif", ".avifs", ".fli", ".flc", ".dcx")
_CLUTTER = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin"}  # what systems leave

_LEFT_OUT = {
    "left_out": ("is no image that can be read", "are no images that can be read"),
    "beside": ("lies beside the folders of classes", "lie beside the folders of classes"),
}


class Listing(NamedTuple):
    """The images of both parts, and what is left out, by the path within: files in the folders of classes that are no
    images, and all files beside those folders."""

    classes: tuple[str, ...]
    train: Source
    test: Source
    left_out: tuple[str, ...]
    beside: tuple[str, ...]
    signature: str  # changes when any image does


def facts(name: Name, root: Path) -> Facts:
    """Facts from the list of files; no image is opened."""
    found = listing(name, root)
    sizes = (len(found.classes), 3, name.side, len(found.train.names), len(found.test.names))
    return Facts(str(name), name.path, *sizes, (), (), "computed when loaded", False)


def read(name: Name, root: Path) -> Arrays:
    """The images, decoded into `decoded/` under the data root unless these very files are there already."""
    found, title = listing(name, root), f"folder:{name.path}"
    label = name.path.replace("/", "+")[-100:]
    target = root / "decoded" / f"{label}@{name.side}-{found.signature[:16]}"
    arrays = decode.read(target, found.signature)
    if arrays is None:
        arrays = decode.decode(
            target,
            found.signature,
            found.train,
            found.test,
            found.classes,
            lambda path: open(path, "rb"),
            name.side,
            title,
            still_the_same=lambda: listing.__wrapped__(name, root).signature == found.signature,
        )
        _say_several_frames(found, title)
    if multiprocessing.parent_process() is None:  # once, not in every worker
        for part, (one, several) in _LEFT_OUT.items():
            if names := getattr(found, part):
                what = f"1 file {one}, and is" if len(names) == 1 else f"{len(names):,} files {several}, and are"
                print(f"{title}: {what} left out: {_some(names)}", flush=True)
        if all((root / name.path / part).is_dir() for part in ("test", "val")):
            print(f"{title}: val/ is not read, because there is test/", flush=True)
    return arrays


def _some(names: tuple[str, ...]) -> str:
    """All names of up to three, else the first and the endings of all."""
    some = ", ".join(shown(name) for name in names[:3])
    if len(names) > 3:
        kinds = sorted({os.path.splitext(name)[1].lower() or "no ending" for name in names})
        some += f", ... ({', '.join(shown(kind) for kind in kinds[:8])})"
    return some


def _say_several_frames(found: Listing, title: str) -> None:
    several = []
    for path in (*found.train.names, *found.test.names):
        if path.lower().endswith(_MAY_MOVE):
            with open(path, "rb") as file:
                if pixels.frames(file) > 1:
                    several.append(path)
    if several:
        first = shown(several[0])
        print(f"{title}: of {len(several):,} files with several frames or pages the first is taken, as of {first}")


@functools.lru_cache(maxsize=16)
def listing(name: Name, root: Path) -> Listing:
    """All image files, by class and path. Kept for the life of the process.

    `signature` is a hash of their paths, sizes and times of change (also that of their entry in the file system, which
    a program that sets a file's time back does not reach). Raises UserError for what cannot be read, for a class
    without images in either part, and for names that cannot be printed.
    """
    folder = root / name.path
    train_folder = folder / "train"
    test_folder = test_or_val(folder)
    for part in (train_folder, test_folder):
        if not part.is_dir():
            raise UserError(f"dataset '{name}': {part} {_absent(part)}; it needs train/CLASS/*.png, and test/ or val/")
    classes = _classes(train_folder)
    if len(classes) < 2:
        raise UserError(f"{train_folder} has {len(classes)} folders of classes; classification needs at least two")
    strange = sorted(set(_classes(test_folder)) - set(classes))
    if strange:
        alike = any(_same_to_the_eye(strange[0], other) for other in classes)
        hint = ": their names look alike, but are encoded otherwise; rename one" if alike else ""
        raise UserError(f"{test_folder / strange[0]}: there is no class {strange[0]!r} in {train_folder}{hint}")
    endings, left_out, beside, sources = pixels.endings(), [], [], []
    digest = hashlib.sha256(f"{name.side} {RECIPE}".encode())
    for part in (train_folder, test_folder):
        beside += [entry.path for entry in _entries(part) if not _is_folder(entry)]
        names, labels = [], []
        for label, wanted in enumerate(classes):
            found = sorted(_files(part / wanted)) if (part / wanted).is_dir() else []
            images = [path for path in found if path.lower().endswith(endings)]
            others = [path for path in found if not path.lower().endswith(endings)]
            if not images:
                there = f"only {len(others)} other files, like {os.path.basename(others[0])}" if others else "none"
                raise UserError(
                    f"{part / wanted} holds no image ({shown(there)}); every class needs images that can be read in "
                    f"{train_folder.name}/ and {test_folder.name}/: add some, or remove the class from both"
                )
            for path in images:
                digest.update(f"{os.path.relpath(path, folder)}|{_state(path)}\n".encode())
            names += images
            labels += [label] * len(images)
            left_out += others
        sources.append(Source(names, labels))
    within = (tuple(os.path.relpath(path, folder) for path in paths) for paths in (left_out, beside))
    return Listing(classes, *sources, *within, digest.hexdigest()[:32])


def test_or_val(folder: Path) -> Path:
    """The part that is tested on: test/ where there is such a name, whatever it leads to, else val/."""
    return folder / ("test" if os.path.lexists(folder / "test") else "val")


def _absent(part: Path) -> str:
    return "is no folder, or a link to nothing" if os.path.lexists(part) else "is missing"


def _same_to_the_eye(one: str, other: str) -> bool:
    """Whether two names differ in nothing that is seen: an archive from a Mac may hold é as e and an accent."""
    return unicodedata.normalize("NFKC", one) == unicodedata.normalize("NFKC", other)


def hidden(name: str) -> bool:
    """Whether a file or folder of this name is the system's or a program's, and neither an image nor a class."""
    return name.startswith(".") or name.lower() in _CLUTTER


def _classes(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in _entries(folder) if _is_folder(entry)))


def _is_folder(entry: os.DirEntry) -> bool:
    """Raises UserError for a link to nothing: it may have been either."""
    if entry.is_symlink():
        _stat(entry.path)
    return entry.is_dir()


def _entries(folder: str | Path) -> list[os.DirEntry]:
    """What is in a folder, less what is hidden. Raises UserError where it cannot be listed, and for names that
    cannot be printed."""
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not hidden(entry.name)]
    except OSError as error:
        raise UserError(f"{shown(str(folder))} cannot be listed: {whats_wrong(Path(folder), error)}") from error
    for entry in found:
        if not on_one_line(entry.name):
            raise UserError(f"{shown(entry.path)}: the name is no UTF-8, or has control characters; rename it")
    return found


def _files(folder: str | Path, within: tuple[str, ...] = ()) -> Iterator[str]:
    """Every file below a folder, through links; a link into one of the folders above it is refused."""
    real = os.path.realpath(folder)
    if real in within:
        raise UserError(f"{shown(str(folder))} is a link to a folder that it lies in; remove it")
    if len(within) > MOST_DEEP:
        raise UserError(f"{shown(str(folder))} lies more than {MOST_DEEP} folders deep in its class; move it up")
    for entry in _entries(folder):
        if _is_folder(entry):
            yield from _files(entry.path, (*within, real))
        else:
            yield entry.path


def _state(path: str) -> str:
    """Size and times of change of an image file. Raises UserError for what is no file."""
    state = _stat(path)
    if not os.path.isfile(path):
        raise UserError(f"{shown(path)} is no regular file; take it out")
    return f"{state.st_size}|{state.st_mtime_ns}|{state.st_ctime_ns}"


def _stat(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as error:
        reason = whats_wrong(Path(path), error)
        raise UserError(f"{shown(path)} cannot be read: {reason}; mend it or take it out") from error
