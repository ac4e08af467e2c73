"""The command line's application: how commands end, and the options that several of them share."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mlp_lib.errors import UserError

app = typer.Typer(
    help="Scaling MLPs, reproduced: train runs, run studies, build the book.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
INTERRUPTED = 130
PAUSED = 75  # exit code "try again": stopped by the budget, a signal or Ctrl-C; the same command goes on

_UsageError = typer.BadParameter.__base__  # click's: of click itself, or of the copy inside newer typers

Out = Annotated[Path | None, typer.Option(help="folder of records and weights, instead of data/runs")]
Json = Annotated[bool, typer.Option("--json", help="last line of stdout: one JSON object")]
Budget = Annotated[float | None, typer.Option(min=0, help="seconds; stop with a checkpoint when they have passed")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps")]
Precision = Annotated[str, typer.Option(help="auto (the faster here), fp32 or bf16")]


def main() -> None:
    """Run the command line; a UserError and a wrong option become one line on stderr."""
    try:
        code = app(standalone_mode=False)
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
    except _UsageError as error:
        if sys.argv[1:]:  # without a command, the help was shown already
            typer.echo(f"error: {error.format_message()}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:
        typer.echo("interrupted; the same command goes on from the last checkpoint", err=True)
    sys.exit(code)


def last_line(wanted: bool, **content: Any) -> None:
    if wanted:
        typer.echo(json.dumps(content))
