"""`book`, `pdf`, `bench`: build the book, print it, measure the library."""

import sys
from typing import Annotated

import typer

from mlp_lib.cli.app import app
from mlp_lib.errors import UserError


@app.command()
def book(
    preset: Annotated[str, typer.Option(help="auto: the largest complete preset of each chapter")] = "auto",
    out: Annotated[str, typer.Option(metavar="PATH", help="build folder, emptied first")] = "_build",
    train: Annotated[bool, typer.Option(help="train what chapters lack, instead of showing it as not run")] = False,
) -> None:
    """Execute the notebooks and build the book."""
    from mlp_lib.book.build import build

    index = build(preset=preset, out=out, train=train)
    typer.echo(f"the book is at {index}")


@app.command()
def pdf(
    html: Annotated[str, typer.Option(metavar="PATH", help="the built book")] = "_build/html",
    out: Annotated[str, typer.Option(metavar="PATH", help="file to write")] = "_build/book.pdf",
) -> None:
    """Print the built book into one PDF, by Chromium."""
    from mlp_lib.book.pdf import write
    from mlp_lib.paths import user_path

    path = write(user_path(html, "--html"), user_path(out, "--out"))
    typer.echo(f"the book is at {path}, {path.stat().st_size / 1e6:.0f} MB")


@app.command()
def bench(
    size: Annotated[
        str, typer.Option(help="full, four minutes on two cores; or tiny, which only shows that it works")
    ] = "full",
    out: Annotated[
        str, typer.Option(metavar="PATH", help="file of results; the README quotes data/bench.json")
    ] = "_build/bench.json",
    check: Annotated[bool, typer.Option("--check", help="exit code 1 when a promise is missed")] = False,
) -> None:
    """Measure speed and memory beside what a user would pick instead, as ratios. For an idle machine, in a checkout."""
    from mlp_lib.paths import REPOSITORY, user_path

    if not (REPOSITORY / "benchmarks").is_dir():
        raise UserError(f"benchmarks/ is not in {REPOSITORY}; bench runs in a checkout of the project, not installed")
    sys.path.insert(0, str(REPOSITORY))
    from benchmarks.suite import run

    _, kept = run(size, user_path(out, "--out"), say=typer.echo)
    if check and not kept:
        raise typer.Exit(1)
