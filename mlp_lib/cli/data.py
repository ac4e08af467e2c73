"""`fetch`, `merge`: bring images and records here."""

import os
from pathlib import Path
from typing import Annotated

import typer

from mlp_lib.cli.app import app
from mlp_lib.errors import UserError
from mlp_lib.paths import user_path


@app.command()
def fetch(
    name: Annotated[
        str,
        typer.Argument(
            help="cifar10, cifar100, fashion-mnist, stl10 (2.6 GB), tinyimagenet; "
            "or folder:NAME, to decode one of your own"
        ),
    ],
    root: Annotated[Path | None, typer.Option(help="instead of $MLP_LIB_DATA, else data/")] = None,
) -> None:
    """Download an image set, checked against its published hash. Can be interrupted and repeated."""
    from mlp_lib import datasets

    datasets.fetch(name, root)


@app.command()
def merge(
    source: Annotated[Path, typer.Argument(help="a folder of records, from --out on any machine")],
    out: Annotated[Path | None, typer.Option(help="the store to add to, instead of data/runs")] = None,
) -> None:
    """Add the records of a folder to the store. Keys are computed anew; second records of a run are replicates."""
    from mlp_lib.records import merge as merge_module
    from mlp_lib.records.store import Store

    source = user_path(source, "the folder of records")
    if not os.path.exists(source):
        raise UserError(f"{source} does not exist; give the folder that --out named")
    written, known = merge_module.merge(source, Store(out))
    typer.echo(f"{len(written)} records added, {known} known already")
