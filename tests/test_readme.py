"""The README says what the records say, and names commands that exist."""

import re
from pathlib import Path

from typer.main import get_command

from mlp_lib import readme
from mlp_lib.cli import app
from mlp_lib.records import REPOSITORY, Store

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_table_of_results_is_that_of_the_records():
    shown = README.split(readme.START)[1].split(readme.END)[0].strip()
    assert shown == readme.results(Store(REPOSITORY / "data" / "runs")), "run: make readme"


def test_commands_and_options_exist():
    commands = get_command(app).commands
    for name, rest in re.findall(r"python -m mlp_lib ([a-z]+)([^`\n]*)", README):
        assert name in commands
        options = {option for parameter in commands[name].params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= options


def test_make_targets_exist():
    targets = re.findall(r"^([a-z]+):", Path(REPOSITORY / "Makefile").read_text(), flags=re.M)
    assert set(re.findall(r"make ([a-z]+)", README)) <= set(targets)
