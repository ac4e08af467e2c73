"""The command line: a few calls a command; an error is one line and exit code 2."""

from mlp_lib.cli import train, study, evaluate, laws, data, pages  # noqa: I001  each registers its commands, in the order of --help
from mlp_lib.cli.app import app, main

__all__ = ["app", "data", "evaluate", "laws", "main", "pages", "study", "train"]
