"""The README says what the records say, and names commands that exist."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from mlp_lib.book import readme
from mlp_lib.chapters import planning, registry
from mlp_lib.cli import app
from mlp_lib.cli.study import assignments
from mlp_lib.paths import REPOSITORY
from mlp_lib.records.store import Store
from mlp_lib.sweeps import costs

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", readme.TABLES)
def test_tables_are_those_of_the_records(name):
    shown = README.split(readme.START.format(name))[1].split(readme.END.format(name))[0].strip()
    assert shown == readme.TABLES[name](Store(REPOSITORY / "data" / "runs")), "run: make readme"


def test_commands_and_options_exist():
    commands = get_command(app).commands
    for name, rest in re.findall(r"python -m mlp_lib ([a-z]+)([^`\n]*)", README):
        assert name in commands
        options = {option for parameter in commands[name].params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= options


def test_the_lecturers_minutes_are_the_planned_ones():
    """Each command of the homework, planned from nothing."""
    page = (REPOSITORY / "book" / "teach.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `study ([^`]+)` \| ([^|]+) \|", page, flags=re.M)
    assert len(rows) >= 4
    for command, shown in rows:
        name, _, preset, *sets = shlex.split(command)
        study = registry.study(name)
        values = assignments([text for text in sets if text != "--set"])
        grid = study.resolve(preset, **study.parameters(**values).changes)
        runs = planning.plan(study, grid, Store(REPOSITORY / "none")).runs
        assert shown == costs.human_seconds(sum(costs.planned_seconds(run) for run in runs)), command


def test_make_targets_exist():
    targets = re.findall(r"^([a-z]+):", Path(REPOSITORY / "Makefile").read_text(), flags=re.M)
    assert set(re.findall(r"make ([a-z]+)", README)) <= set(targets)


def test_the_lecturers_page_names_headings_that_exist():
    page = (REPOSITORY / "book" / "teach.md").read_text(encoding="utf-8")
    texts = [path.read_text(encoding="utf-8") for path in (REPOSITORY / "notebooks").glob("*.ipynb")]
    headings = {heading for text in texts for heading in re.findall(r'"#{2,3} (.+?)(?:\\n)?"', text)}
    named = re.findall(r"^\| \{ref\}[^|]*\| \*([^*]+)\*", page, flags=re.M)
    assert len(named) >= 8 and set(named) <= headings, set(named) - headings
