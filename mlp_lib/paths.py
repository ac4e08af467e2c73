"""Paths: where the checkout is, what a path that a user gives means, and what can be said of a file that is wrong."""

import os
import stat
import unicodedata
from pathlib import Path

from mlp_lib.errors import UserError

PACKAGE = Path(__file__).resolve().parent
REPOSITORY = PACKAGE.parent
POINTER = b"version https://git-lfs.github.com/spec/"  # how the stand-in of a file that Git LFS keeps begins


def user_path(text: str | os.PathLike, what: str = "the path", base: Path | None = None) -> Path:
    """The absolute path that a user means by `text`: `~` and `~name` are homes, a relative one counts from `base`, the
    current folder where there is none.

    Nothing is looked up but homes: the path need not exist, and links stay links. Raises UserError for an empty path,
    a home that does not exist, a variable that no shell has put in, and characters that cannot be printed.
    """
    given = os.fspath(text)
    if isinstance(given, bytes):
        given = os.fsdecode(given)
    if not given.strip():
        raise UserError(f"{what} is empty; name a folder or a file")
    if not on_one_line(given):
        raise UserError(f"{what} {given!r} has characters that cannot be printed as UTF-8; take another name")
    if given.startswith("$"):
        raise UserError(f"{what} {given!r} begins with a variable that the shell did not put in; write it unquoted")
    if given.startswith("~"):
        expanded = os.path.expanduser(given)
        if expanded.startswith("~"):
            raise UserError(f"{what} {given!r}: there is no home of {given.split('/')[0]!r}; write the whole path")
        given = expanded
    try:
        path = os.path.abspath(os.path.join(base, given) if base else given)
    except FileNotFoundError:
        raise UserError(f"{what} {given!r} counts from the current folder, which is gone; cd to one that is") from None
    if not on_one_line(path):
        raise UserError(f"{what} {path!r} lies in a folder whose name cannot be printed as UTF-8; rename that")
    return Path(path)


def path_from_environment(name: str, default: Path) -> Path:
    """What the variable `name` names, else `default`. A relative path counts from the checkout, so that it is the same
    folder for a command in any folder and for a notebook, which runs in its own."""
    given = os.environ.get(name)
    return user_path(given, f"${name}", REPOSITORY) if given else default


def is_pointer(path: Path) -> bool:
    """Whether the file is no more than Git LFS's stand-in for the one that belongs here."""
    try:
        check_regular(path)
        with open(path, "rb") as file:
            return file.read(len(POINTER)) == POINTER
    except OSError:
        return False


def check_regular(path: Path) -> None:
    """Raises OSError for what is no file, or is none that ends, such as a pipe: to open that would wait for ever."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError("it is a folder" if os.path.isdir(path) else "it is no regular file")


def whats_wrong(path: Path, error: Exception) -> str:
    """Why a file cannot be read, in words that go after its name: what it is instead, or what the reader said."""
    if isinstance(error, PermissionError):
        return "permission denied; change its permissions"
    if is_pointer(path):
        return "it is a Git LFS pointer, not the file itself; run git lfs pull where it comes from"
    try:
        if isinstance(error, FileNotFoundError) and not path.exists():
            return "it is not there, or a link to nothing"
        if path.is_file() and path.stat().st_size == 0:
            return "it is empty"
        if path.exists():
            check_regular(path)
    except OSError as blocked:
        return f"{blocked.strerror or blocked}".lower()
    if isinstance(error, MemoryError):
        return "it holds more than the memory does"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(reason.split())[:200] or type(error).__name__


def on_one_line(text: str) -> bool:
    """Whether a name can be printed on a line, as UTF-8: no control character, no break of a line, no byte that is
    none. (Odd spaces can: some systems put them into the names of screenshots.)"""
    return not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text)


def brief(value: object, most: int = 200) -> str:
    """A value as it would be written in Python, cut where it is long."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"


def shown(text: str) -> str:
    """Text as it can be printed on one line: what cannot is escaped."""
    return "".join(c if on_one_line(c) else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
