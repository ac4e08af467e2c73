"""The command `laws`: what the scaling laws say of a CSV file of runs."""

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from mlp_lib.cli.app import app
from mlp_lib.errors import UserError
from mlp_lib.paths import user_path


@app.command()
def laws(
    csv: Annotated[str, typer.Option(metavar="PATH", help="file with a header and a row a run")],
    columns: Annotated[
        str, typer.Option(help="its columns of parameters, examples and loss, in this order")
    ] = "params,examples,loss",
    group: Annotated[str | None, typer.Option(help="a column; runs of each of its values are fitted apart")] = None,
    budget: Annotated[float | None, typer.Option(help="compute to recommend a model and data size for")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object instead of tables")] = False,
    plot: Annotated[
        str | None, typer.Option(metavar="PATH", help="write the figure there, by suffix: .png, .pdf, .svg")
    ] = None,
    flops_per: Annotated[
        float, typer.Option(help="operations a parameter and example, where the file has no column compute")
    ] = 6.0,
    draws: Annotated[int, typer.Option(help="bootstrap resamples of the runs")] = 1000,
) -> None:
    """Fit L = E + A/params^alpha + B/examples^beta to a CSV file of runs; say how to divide a compute budget."""
    from mlp_lib.stats.laws.report import as_text, report
    from mlp_lib.stats.laws.table import groups, read_csv

    names = columns.split(",")
    frame = read_csv(user_path(csv, "--csv"))
    target = None if plot is None else user_path(plot, "--plot")
    answers = {}
    for name, part in groups(frame, group).items() if group else [("", frame)]:
        try:
            answers[name] = report(part, names, budget, flops_per=flops_per, draws=draws)
        except UserError as error:
            raise UserError(f"{group} {name}: {error}" if group else str(error)) from None
        if target is not None:
            path = target.with_name(f"{target.stem}-{_in_a_file_name(name)}{target.suffix}") if group else target
            _draw(part, names, flops_per, answers[name], path)
    if as_json:
        typer.echo(json.dumps({"groups": answers} if group else answers[""], allow_nan=False))
    else:
        blocks = (
            f"{group} {name}\n\n{as_text(answer)}" if group else as_text(answer) for name, answer in answers.items()
        )
        typer.echo("\n\n".join(blocks))


def _in_a_file_name(text: str) -> str:
    """The text with what a file's name may not have on some system replaced."""
    return re.sub(r"[^\w.+-]+", "_", text)


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
