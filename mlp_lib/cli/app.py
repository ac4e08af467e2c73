"""The command line's application: how commands end, and the options that several of them share."""

import atexit
import json
import sys
from typing import Annotated, Any

import typer

from mlp_lib.errors import UserError
from mlp_lib.output import lost_output, protect_streams
from mlp_lib.paths import shown
from mlp_lib.sweeps.process import INTERRUPTED, ends_by_signal, exit_code, ignore_further_signals

app = typer.Typer(
    help="Scaling MLPs, reproduced: train runs, run studies, build the book.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
LOST = 74  # exit code "input/output error": what was to be printed could not be written, and was lost

_UsageError = typer.BadParameter.__base__  # click's: of click itself, or of the copy inside newer typers

# A path stays text until `paths.user_path` reads it: as a `Path`, an empty one would be the current folder.
Out = Annotated[str | None, typer.Option(metavar="PATH", help="folder of records and weights, instead of data/runs")]
Json = Annotated[bool, typer.Option("--json", help="last line of stdout: one JSON object")]
Budget = Annotated[float | None, typer.Option(min=0, help="seconds; stop with a checkpoint when they have passed")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps")]
Precision = Annotated[str, typer.Option(help="auto (the faster here), fp32 or bf16")]


def main() -> None:
    """Run the command line; a UserError and a wrong option become one line on stderr, as does a signal."""
    protect_streams()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a letter that the terminal lacks is no reason to stop
    with ends_by_signal():
        try:
            code = app(standalone_mode=False)
            if code == INTERRUPTED:  # typer's own word for Ctrl-C
                code = _interrupted()
        except UserError as error:
            typer.echo(f"error: {error}", err=True)
            code = 2
        except OSError as error:  # what no package below has put into words
            if error.filename is None or isinstance(error, BrokenPipeError):
                raise
            typer.echo(f"error: {shown(str(error.filename))}: {error.strerror}; mend that and run again", err=True)
            code = 2
        except _UsageError as error:
            if sys.argv[1:]:  # without a command, the help was shown already
                typer.echo(f"error: {error.format_message()}", err=True)
            code = 2
        except (KeyboardInterrupt, typer.Abort):
            code = _interrupted()
        except Paused:
            code = exit_code()
    if failure := lost_output():
        typer.echo(f"error: cannot write to stdout: {failure.strerror}; the records are kept", err=True)
        code = code or LOST
    atexit.register(ignore_further_signals)
    sys.exit(code)


class Paused(Exception):
    """The command has said that it stopped before it was done."""


def _interrupted() -> int:
    """The line and the exit code of a command that a signal ended at once."""
    word = "interrupted" if exit_code() == INTERRUPTED else "stopped"
    typer.echo(f"{word}; the same command goes on from the last checkpoint", err=True)
    return exit_code()


def last_line(wanted: bool, **content: Any) -> None:
    if wanted:
        typer.echo(json.dumps(content))
