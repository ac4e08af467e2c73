"""The page that says how to add a chapter, followed to the letter in a copy of the repository."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from mlp_lib.paths import REPOSITORY

PAGE = (REPOSITORY / "book" / "chapters.md").read_text(encoding="utf-8")
# A path in ticks, the rest of a line that ends in a colon, and the code block below it.
BLOCK = re.compile(r"^`([\w./-]+)`[^\n]*:\n\n```(\w+)\n(.*?)^```$", re.M | re.S)
COPIED = ("mlp_lib", "notebooks", "book", "tests", "benchmarks", "data/paper")


def inserted(text: str, diff: str) -> str:
    """`text` with the lines marked + of a diff put behind the lines before them; without any, at the end."""
    lines, at = text.splitlines(), None
    for line in diff.splitlines():
        mark, content = line[:1], line[1:]
        if mark == "+":
            at = len(lines) if at is None else at
            lines.insert(at, content)
            at += 1
        else:
            at = lines.index(content) + 1
    return "\n".join(lines) + "\n"


def notebook_of(percent: str, project: str) -> nbformat.NotebookNode:
    """Cells in the percent form as a notebook; `project` takes the place of the cell PROJECT."""
    cells = []
    for cell in re.split(r"(?m)^# %%", percent)[1:]:
        marker, _, source = cell.partition("\n")
        if "[markdown]" in marker:
            prose = re.sub(r"(?m)^# ?", "", source.strip())
            cells.append(nbformat.v4.new_markdown_cell(prose))
        else:
            code = project if source.strip() == "PROJECT" else source.strip()
            cells.append(nbformat.v4.new_code_cell(code, metadata=json.loads(marker or "{}")))
    about = {"myst": {"html_meta": {"description": "A toy chapter that the page on chapters describes."}}}
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return nbformat.v4.new_notebook(cells=cells, metadata=about | kernel)


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """A copy of the repository without records, after every step of the page."""
    root = tmp_path_factory.mktemp("copy") / "repository"
    for name in COPIED:
        shutil.copytree(REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    for name in ("_toc.yml", "_config.yml", "pyproject.toml", "README.md"):
        shutil.copy(REPOSITORY / name, root / name)
    project = nbformat.read(root / "notebooks" / "claims.ipynb", as_version=4).cells[1].source
    blocks = BLOCK.findall(PAGE)
    assert len(blocks) >= 8
    for path, language, code in blocks:
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if language == "diff":
            place.write_text(inserted(place.read_text(encoding="utf-8"), code), encoding="utf-8")
        elif place.suffix == ".ipynb":
            nbformat.write(notebook_of(code, project), place)
        else:
            place.write_text(code, encoding="utf-8")
    return root


def run(copy: Path, *command: str) -> str:
    environment = {"PYTHONPATH": str(copy), "PATH": "/usr/bin:/bin", "HOME": str(copy), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *command], cwd=copy, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_the_chapter_trains_is_judged_and_shown(copy):
    run(copy, "-m", "mlp_lib", "study", "rq1-width", "--preset", "smoke")
    assert len(list((copy / "data" / "runs").glob("*.json"))) == 6
    last = json.loads(run(copy, "-m", "mlp_lib", "claims", "--preset", "smoke", "--json"))[-1]
    assert (last["claim"], last["chapter"], last["n"]) == (16, "rq1-width", 3) and last["verdict"] != "not tested"
    code = (
        "from pathlib import Path; from mlp_lib.book import build, execute\n"
        "assert Path('notebooks/rq1-width.ipynb') in build.toc_pages(build.ROOT)\n"
        "execute.execute(Path('notebooks/rq1-width.ipynb'), Path('out.ipynb'), {'preset': 'smoke', 'train': False})\n"
    )
    run(copy, "-c", code)
    outputs = [o for c in nbformat.read(copy / "out.ipynb", 4).cells for o in c.get("outputs", [])]
    glued = {o.metadata["scrapbook"]["name"] for o in outputs if "scrapbook" in o.get("metadata", {})}
    assert glued == {"width-claim-16", "width-gain", "width-scale"}
    assert any("image/svg+xml" in o.get("data", {}) for o in outputs)


@pytest.mark.slow
def test_the_chapter_keeps_the_rules_of_the_house_and_passes_its_own_test(copy):
    house = "downwards or another or sitting or job"
    run(
        copy,
        "-m",
        "pytest",
        "-n",
        "0",
        "-q",
        "tests/test_house.py",
        "tests/chapters/test_width.py",
        "-k",
        f"{house} or runs or rule",
    )
    run(copy, "-m", "ruff", "check", "mlp_lib/chapters/width", "tests/chapters/test_width.py")
    run(copy, "-m", "ruff", "format", "--check", "mlp_lib/chapters/width", "tests/chapters/test_width.py")
