"""`fetch`, `merge`: bring images and records here."""

import os
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
    root: Annotated[str | None, typer.Option(metavar="PATH", help="instead of $MLP_LIB_DATA, else data/")] = None,
) -> None:
    """Download an image set, checked against its published hash. Can be interrupted and repeated."""
    from mlp_lib import datasets

    datasets.fetch(name, root)


@app.command()
def merge(
    source: Annotated[str, typer.Argument(help="a folder of records, from --out on any machine")],
    out: Annotated[str | None, typer.Option(metavar="PATH", help="the store to add to, instead of data/runs")] = None,
) -> None:
    """Add the records of a folder to the store. Keys are computed anew; second records of a run are replicates."""
    from mlp_lib.records import merge as merge_module
    from mlp_lib.records.store import Store

    folder = user_path(source, "the folder of records")
    if not os.path.exists(folder):
        raise UserError(f"{folder} does not exist; give the folder that --out named")
    written, known = merge_module.merge(folder, Store(out))
    typer.echo(f"{len(written)} records added, {known} known already")
