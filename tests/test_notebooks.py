"""Every notebook is committed clean, declares what the build injects, and runs from nothing at the smoke preset."""

from pathlib import Path

import nbformat
import pytest

from mlp_lib import book
from mlp_lib.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
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


def test_first_code_cell_declares_the_parameters(notebook):
    assert "parameters" in code_cells(notebook)[0].metadata.get("tags", [])
    assert {"preset", "train", "budget_minutes"} <= set(book.parameters_of(notebook))


def test_parameters_are_literals_with_a_comment_each(notebook):
    for line in code_cells(notebook)[0].source.splitlines():
        if line.strip() and not line.startswith("#"):
            assert "=" in line and "#" in line, f"one commented parameter a line: {line}"


def test_has_no_loose_ends(notebook):
    text = "\n".join(cell.source for cell in nbformat.read(notebook, as_version=4).cells)
    assert "TODO" not in text and "FIXME" not in text


def test_is_a_page_of_the_book(notebook):
    assert notebook.relative_to(ROOT) in book.toc_pages(ROOT)


def test_unknown_parameter_is_refused_by_name(notebook, tmp_path):
    with pytest.raises(UserError, match=r"no parameter presett; it has: .*preset"):
        book.execute(notebook, tmp_path / "out.ipynb", {"presett": "smoke"})
    assert not (tmp_path / "out.ipynb").exists()


@pytest.mark.slow
def test_runs_from_nothing_at_smoke(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("MLP_LIB_RUNS", str(tmp_path / "runs"))  # an empty store: everything shown is trained here
    monkeypatch.setenv("MLP_LIB_DATA", str(tmp_path / "no-images"))  # smoke needs no download
    out = tmp_path / notebook.name
    assert book.execute(notebook, out, {"preset": "smoke", "train": True}) > 0
    assert all(cell.execution_count for cell in code_cells(out) if cell.source.strip())
