"""Image sets of the reader's own, by a name that says where under the data root they are.

    npz:NAME             NAME/train.npz, and NAME/test.npz or NAME/val.npz, with `images` (uint8, N x H x W x C or
                         N x H x W) and `labels` (integers); class names in NAME/classes.json, if it is there
    folder:NAME[@SIDE]   NAME/train/CLASS/*.png, .jpg, .webp and all else that Pillow reads, and NAME/test/... or
                         NAME/val/...; every image becomes colour as a viewer shows it, its centred square, SIDE pixels
                         a side (64, the paper's, where none is given)

The name goes into run keys, so it is relative: a link in the data root stands for a folder elsewhere. Which images it
stood for, the fingerprint in each record says. Nothing that is read here can run code.
"""

import os
from pathlib import Path

from mlp_lib.datasets import folders, npz
from mlp_lib.datasets.catalogue import Facts
from mlp_lib.datasets.decode import Arrays
from mlp_lib.datasets.names import is_user_set, parse
from mlp_lib.errors import UserError

__all__ = ["at_hand", "facts", "is_user_set", "parse", "read"]

_ROOMS = {"npz": npz, "folder": folders}


def at_hand(name: str, root: Path) -> bool:
    """Whether there is a folder of this name, whatever it holds."""
    return os.path.isdir(root / parse(name).path)


def facts(name: str, root: Path) -> Facts:
    """Facts without loading images: from headers and labels (npz), from the list of files (folder).

    Kept for the life of the process. Raises UserError when the set is absent or not of the form above.
    """
    parsed = parse(name)
    _check_folder(name, root / parsed.path)
    try:
        return _ROOMS[parsed.kind].facts(parsed, root)
    except PermissionError as error:
        raise UserError(
            f"{error.filename or root} cannot be read: permission denied; change its permissions"
        ) from error


def read(name: str, root: Path) -> Arrays:
    """The images. A folder's are decoded once, into `decoded/` under the data root, and again when its files change.

    Raises UserError: one line that names the file that is wrong.
    """
    facts(name, root)
    parsed = parse(name)
    return _ROOMS[parsed.kind].read(parsed, root)


def _check_folder(name: str, folder: Path) -> None:
    try:
        os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"dataset {name!r}: there is no folder {folder}; put it there, or a link to it") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(
            f"dataset {name!r}: {folder} cannot be read: {reason}; change its permissions or name"
        ) from error
