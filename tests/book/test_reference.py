"""The generated reference pages say everything that the code offers, and nothing in them is taken for markup."""

import importlib
import inspect
import re
import subprocess
import sys

import pytest
import typer
from markdown_it import MarkdownIt

from mlp_lib.book import reference
from mlp_lib.chapters.registry import STUDIES
from mlp_lib.cli import app
from mlp_lib.paths import REPOSITORY
from mlp_lib.records.record import Record
from mlp_lib.records.run import Init, Run

ROOT = REPOSITORY


def cells(text: str) -> list[list[str]]:
    """The rows of the tables of a page, as a Markdown reader sees them; code without its ticks."""
    rows, row = [], []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "tr_open":
            rows.append(row := [])
        elif token.type == "inline" and token.level >= 4:
            row.append("".join(part.content for part in token.children))
    return rows


def test_every_field_of_runs_and_records_is_there_with_its_meaning():
    rows = cells(reference.schema())
    fields = [(name, field) for kind in (Run, Init, Record) for name, field in kind.model_fields.items()]
    named = [row for row in rows if row[0] != "field"]
    assert [row[0] for row in named] == [name for name, _ in fields]
    for row, (name, field) in zip(named, fields, strict=True):
        assert len(row) == 4 and row[3] == field.description, f"{name} has no description, or it is changed"
        assert (row[2] == "required") == field.is_required()
    lr = next(row for row in named if row[0] == "lr")
    assert lr == ["lr", "float, > 0", "5e-05", "peak learning rate"]
    assert next(row[1] for row in named if row[0] == "norm") == "Literal['layer', 'batch', 'none'] | None"


def test_every_command_and_option_is_there():
    text = reference.command_line()
    commands = [command.name or command.callback.__name__ for command in app.registered_commands]
    headings = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    assert headings == commands and {"train", "study", "claims", "book"} <= set(commands)
    study = next(row for row in cells(text) if row[0] == "NAME" and "rq1" in row[1])
    assert all(name in study[1] for name in STUDIES)
    shown = {option.strip() for row in cells(text) for option in row[0].split(",")}
    for command in typer.main.get_command(app).commands.values():
        for parameter in command.params:
            if parameter.param_type_name == "option" and parameter.name != "help":
                assert set(parameter.opts) <= shown
    assert {"--" + name.replace("_", "-") for name in Run.model_fields if name != "recipes"} <= shown


@pytest.mark.parametrize(
    "name",
    [
        "stats.intervals",
        "records.record",
        "records.run",
        "chapters.claims",
        "chapters.notebook",
        "chapters.from_scratch.study",
    ],
)
def test_every_public_name_of_a_room_is_there(name):
    module = importlib.import_module(f"mlp_lib.{name}")
    page = reference.api()
    room = page.split(f"## mlp_lib.{name}\n")[1].split("\n## ")[0]
    for public, value in vars(module).items():
        if public.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(value):
            assert f"{{py:function}} {public}(" in room
        elif inspect.isclass(value):
            assert f"{{py:class}} {public}\n" in room


def test_signatures_are_those_of_the_source():
    page = reference.api()
    assert "{py:function} t_interval(values: Sequence[float], level: float=0.95) -> Estimate" in page
    assert "{py:property} key\n" in page and "{py:method} but(**changes: Any)" in page  # without self


def test_every_name_links_to_its_lines_where_the_repository_has_an_address():
    page = reference.api(address="https://github.com/someone/study")
    path, line = re.search(r"t_interval\(.*?blob/main/([\w/.]+)#L(\d+)", page, re.S).groups()
    assert (ROOT / path).read_text(encoding="utf-8").splitlines()[int(line) - 1].startswith("def t_interval(")
    assert "https://" not in reference.api() and "Source: `mlp_lib/stats/intervals.py`" in reference.api()


def test_docstrings_stay_what_they_are():
    text = "a_b * c_d [x] {y} $z$ <t> #1 | `code_here`\n\n    indented_part  *as* it stands"
    tokens = MarkdownIt("commonmark").parse(reference.prose(text))
    kinds = [child.type for token in tokens if token.children for child in token.children]
    assert set(kinds) <= {"text", "text_special", "code_inline"} and kinds.count("code_inline") == 1
    inline = next(token for token in tokens if token.type == "inline")
    assert "".join(c.content for c in inline.children) == "a_b * c_d [x] {y} $z$ <t> #1 | code_here"
    assert next(token.content for token in tokens if token.type == "fence") == "indented_part  *as* it stands\n"


def test_reference_is_written_without_torch(tmp_path):
    code = (
        "import sys; from pathlib import Path; from mlp_lib.book import reference\n"
        "reference.write(Path(sys.argv[1])); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["api.md", "cli.md", "schema.md"]
