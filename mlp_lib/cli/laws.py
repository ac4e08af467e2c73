"""The command `laws`: what the scaling laws say of a CSV file of runs."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mlp_lib.cli.app import app
from mlp_lib.errors import UserError


@app.command()
def laws(
    csv: Annotated[Path, typer.Option(help="file with a header and a row a run")],
    columns: Annotated[
        str, typer.Option(help="its columns of parameters, examples and loss, in this order")
    ] = "params,examples,loss",
    budget: Annotated[float | None, typer.Option(help="compute to recommend a model and data size for")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object instead of tables")] = False,
    plot: Annotated[Path | None, typer.Option(help="write the figure there, by suffix: .png, .pdf, .svg")] = None,
    flops_per: Annotated[
        float, typer.Option(help="operations a parameter and example, where the file has no column compute")
    ] = 6.0,
    draws: Annotated[int, typer.Option(help="bootstrap resamples of the runs")] = 1000,
) -> None:
    """Fit L = E + A/params^alpha + B/examples^beta to a CSV file of runs; say how to divide a compute budget."""
    from mlp_lib.stats.laws.report import as_text, report
    from mlp_lib.stats.laws.table import read_csv

    names = columns.split(",")
    frame = read_csv(csv)
    answer = report(frame, names, budget, flops_per=flops_per, draws=draws)
    if plot is not None:
        _draw(frame, names, flops_per, answer, plot)
    typer.echo(json.dumps(answer, allow_nan=False) if as_json else as_text(answer))


def _draw(frame, names: list[str], flops_per: float, answer: dict, path: Path) -> None:
    from mlp_lib.stats.laws.table import tidy

    try:
        from mlp_lib.plots.laws import report_figure
    except ImportError:
        raise UserError("a figure needs matplotlib, which is not installed; leave --plot out") from None
    figure = report_figure(tidy(frame, names, flops_per), answer)
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot write the figure to {path}: {' '.join(str(error).split())}") from None
