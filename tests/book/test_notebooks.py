"""Every notebook is committed clean, declares what the build injects, and runs from nothing at the smoke preset."""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import nbformat
import pytest
from matplotlib.figure import Figure

from mlp_lib import chapters, plots
from mlp_lib.book import build, execute
from mlp_lib.chapters.notebook import notebook_values
from mlp_lib.errors import UserError
from mlp_lib.paths import REPOSITORY

ROOT = REPOSITORY
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request) -> Path:
    return request.param


def code_cells(notebook: Path) -> list:
    return [cell for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code"]


def test_is_valid(notebook):
    nbformat.validate(nbformat.read(notebook, as_version=4))


def test_is_committed_without_outputs(notebook):
    dirty = [c.source for c in code_cells(notebook) if c.outputs or c.execution_count is not None]
    assert not dirty, "clear the outputs: jupyter nbconvert --clear-output --inplace " + notebook.name


def test_first_cells_look_for_the_project_and_declare_the_parameters(notebook):
    looks, declares = code_cells(notebook)[:2]
    assert looks.metadata.get("tags", []) == ["remove-cell"]  # the book does not show it
    assert looks.source == code_cells(NOTEBOOKS[0])[0].source, "one text for all: what it needs cannot be imported yet"
    assert "parameters" in declares.metadata.get("tags", [])
    assert {"preset", "train", "budget_minutes"} <= set(execute.parameters_of(notebook))


def test_alone_a_notebook_says_what_it_needs():
    source = code_cells(NOTEBOOKS[0])[0].source
    alone = subprocess.run([sys.executable, "-I", "-S", "-c", source], capture_output=True, text=True, check=False)
    assert alone.returncode == 1
    last = alone.stderr.splitlines()[-1]
    assert last.startswith("ModuleNotFoundError: mlp_lib is not found") and "myst_nb" not in alone.stderr
    page, section = re.findall(r"'([^']+)'", last)
    text = (ROOT / "book" / "reexecute.md").read_text(encoding="utf-8")
    assert f"\n# {page}\n" in text and f"\n## {section}\n" in text
    names: dict = {}
    exec(source, names)
    assert notebook_values(names) == {}  # nothing that a chapter would take for a parameter


def test_parameters_are_literals_with_a_comment_each(notebook):
    for line in code_cells(notebook)[1].source.splitlines():
        if line.strip() and not line.startswith("#"):
            assert "=" in line and "#" in line, f"one commented parameter a line: {line}"


def test_has_no_loose_ends(notebook):
    text = "\n".join(cell.source for cell in nbformat.read(notebook, as_version=4).cells)
    assert "TODO" not in text and "FIXME" not in text


def test_says_what_it_is_where_it_is_shared(notebook):
    about = nbformat.read(notebook, as_version=4).metadata.get("myst", {}).get("html_meta", {})
    assert len(about.get("description", "").split()) >= 5, "metadata: {'myst': {'html_meta': {'description': ...}}}"


def test_figures_are_described_in_words(notebook):
    rooms = [
        import_module(room.name)
        for package in (plots, chapters)
        for room in walk_packages(package.__path__, f"{package.__name__}.")
    ]
    functions = {
        name
        for room in rooms
        for name, value in vars(room).items()
        if getattr(value, "__annotations__", {}).get("return") is Figure
    }
    assert {"training_length", "forest", "test_error"} <= functions
    for cell in code_cells(notebook):
        if re.search(rf"\b[a-z]+\.({'|'.join(sorted(functions))})\(", cell.source):
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            assert len(alt.split()) >= 3, f"no mystnb.image.alt in the metadata of the cell: {cell.source}"


def test_is_a_page_of_the_book(notebook):
    assert notebook.relative_to(ROOT) in build.toc_pages(ROOT)


def test_unknown_parameter_is_refused_by_name(notebook, tmp_path):
    with pytest.raises(UserError, match=r"no parameter presett; it has: .*preset"):
        execute.execute(notebook, tmp_path / "out.ipynb", {"presett": "smoke"})
    assert not (tmp_path / "out.ipynb").exists()


@pytest.mark.slow
def test_runs_from_nothing_at_smoke(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("MLP_LIB_RUNS", str(tmp_path / "runs"))  # an empty store: everything shown is trained here
    monkeypatch.setenv("MLP_LIB_DATA", str(tmp_path / "no-images"))  # smoke needs no download
    out = tmp_path / notebook.name
    assert execute.execute(notebook, out, {"preset": "smoke", "train": True}) > 0
    assert all(cell.execution_count for cell in code_cells(out) if cell.source.strip())


def test_claims_page_quotes_a_verdict_of_every_claim_and_its_chapter(tmp_path, monkeypatch):
    monkeypatch.setenv("MLP_LIB_RUNS", str(tmp_path / "runs"))
    out = tmp_path / "claims.ipynb"
    execute.execute(ROOT / "notebooks" / "claims.ipynb", out, {"train": True})
    outputs = [output for cell in code_cells(out) for output in cell.outputs]
    glued = {o.metadata["scrapbook"]["name"] for o in outputs if "scrapbook" in o.get("metadata", {})}
    assert {f"claim-{number}-verdict" for number in range(1, 16)} <= glued
    tables = "".join(o.data.get("text/html", "") for o in outputs if "data" in o)
    assert tables.count("<strong>not tested</strong>") == 15 and tables.count('id="claim-') == 15
    assert tables.count('href="rq1-from-scratch.html"') >= 6  # claims 1 to 3, in the picture and in the table
    assert {"claims-strip", "claims-questions", "front-picture", "front-price-images"} <= glued  # for the front page
    assert not (tmp_path / "runs").exists()  # train=True, and still nothing is trained


CHAPTERS = [path for path in NOTEBOOKS if path.stem.startswith("rq") and not path.stem.endswith("-details")]


@pytest.mark.parametrize("notebook", CHAPTERS, ids=lambda p: p.stem)
def test_a_chapter_answers_first_and_with_glued_values_only(notebook):
    cells = nbformat.read(notebook, 4).cells
    _, _, answer = cells[0].source.partition("```{admonition} In short")
    said = set(re.findall(r"\{glue:text\}`([^`:]+)`", answer))
    assert said, f"{notebook.stem}: the first cell has no answer in short"
    assert not re.findall(r"\d+\.\d", re.sub(r"`[^`]*`", "", answer))  # a result is glued
