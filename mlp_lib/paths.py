"""Where the checkout is: the folder that holds the library, the notebooks, the book and the records."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
REPOSITORY = PACKAGE.parent
