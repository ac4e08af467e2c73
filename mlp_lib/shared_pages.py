"""What the pages of one build share: results and fits that a page finds where another has worked them out.

A build of the book names an empty folder of its own in the environment, so nothing of an older library or of other
records can be found there. Without that folder everything is worked out anew.
"""

import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
FOLDER = "MLP_LIB_SHARED_PAGES"  # the environment variable that names the folder


def shared(key: tuple, made: Callable[[], T]) -> T:
    """What `made` gives, or gave to another page of this build under an equal key.

    key: plain values whose `repr` tells them apart. What is made must pickle.
    """
    folder = os.environ.get(FOLDER)
    if not folder:
        return made()
    path = Path(folder, hashlib.sha256(repr(key).encode()).hexdigest() + ".pickle")
    try:
        with open(path, "rb") as file:
            return pickle.load(file)
    except FileNotFoundError:
        value = made()
    part = path.with_suffix(f".{os.getpid()}.part")  # another page may be writing the same
    part.write_bytes(pickle.dumps(value))
    part.replace(path)
    return value
