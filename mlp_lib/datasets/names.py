"""Names of image sets of the reader's own: `npz:NAME` and `folder:NAME[@SIDE]`, with a path below the data root."""

import posixpath
import re
from typing import NamedTuple

from mlp_lib.errors import UserError
from mlp_lib.paths import on_one_line

SIDE = 64  # of a folder's images, in pixels: the paper trains everything at this size (section 4)


class Name(NamedTuple):
    """A parsed name. `path` is relative to the data root, with forward slashes; `side` is 0 for npz."""

    kind: str
    path: str
    side: int

    def __str__(self) -> str:
        return f"{self.kind}:{self.path}" + (f"@{self.side}" if self.side not in (0, SIDE) else "")


def is_user_set(name: str) -> bool:
    return name.startswith(("npz:", "folder:"))


def parse(name: str) -> Name:
    """Read a name. Raises UserError for a path that is empty, absolute, leads out of the data root or cannot be
    printed on a line."""
    kind, text = name.split(":", 1)
    side = 0
    if kind == "folder":
        match = re.fullmatch(r"(.*?)(?:@(\d+))?", text, re.DOTALL)
        text, digits = match[1], match[2] or str(SIDE)
        side = int(digits) if len(digits) < 6 else 10**6
        if not 4 <= side <= 512:
            raise UserError(f"dataset {name!r}: images of {digits[:20]} pixels; take 4 to 512, as in folder:NAME@32")
    path = posixpath.normpath(text) if text else "."
    if path == "." or path.startswith(("/", "..")) or "\\" in path or ":" in path:
        raise UserError(
            f"dataset {name!r}: write a path relative to the data root, like {kind}:flowers, because the name becomes "
            "part of run keys; for a folder elsewhere, put a link to it into the data root"
        )
    if not on_one_line(path):
        raise UserError(f"dataset {name!r}: the name has characters that cannot be printed as UTF-8; rename the folder")
    return Name(kind, path, side)
