"""The house: imports run downwards, chapters do not know each other, pages open without torch, modules are readable."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mlp_lib.book.house import FLOORS, PICTURE, edges, floor_of, imports, jobs, modules, picture
from mlp_lib.paths import PACKAGE

# Only modules of these packages may load torch when they are imported; sweeps does when it trains (below).
WITH_TORCH = ("measures", "training", "models", "sweeps")
PLANNING = ("mlp_lib.sweeps.ensure", "mlp_lib.sweeps.costs", "mlp_lib.sweeps.process")  # what says what training costs
# Modules of fewer than 20 lines that are not an `__init__`, and why they stand alone.
SHORT = {
    "__main__.py": "what `python -m mlp_lib` starts",
}
# Modules of more than 350 lines that may stay for now, and why.
LONG: dict[str, str] = {}
MODULES = modules()


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def test_every_package_has_a_floor_and_says_its_job_in_one_line():
    known = {name for floor in FLOORS for name in floor}
    packages = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert packages == known
    for path in PACKAGE.glob("*/**/__init__.py"):
        job = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        first = job.splitlines()[0] if job else ""
        assert 10 < len(first) <= 117 and first[-1] in ".)", f"{name_of(path)} does not say its job in one line"


def test_imports_only_run_downwards():
    """Also those inside functions. Packages of one floor may call each other; the two of the top floor do."""
    upwards = [
        f"{name_of(path)} imports {target}"
        for path in MODULES
        for target in imports(path)
        if floor_of(path) is not None and floor_of(target) is not None and floor_of(target) < floor_of(path)
    ]
    assert not upwards, "\n".join(upwards)


def test_no_chapter_imports_another():
    folders = {path.name for path in (PACKAGE / "chapters").iterdir() if (path / "__init__.py").is_file()}
    assert len(folders) >= 6
    for path in MODULES:
        own = path.relative_to(PACKAGE).parts
        for target in imports(path):
            parts = target.split(".")
            if parts[1:2] == ["chapters"] and parts[2:3] and parts[2] in folders and own[0] == "chapters":
                assert own[1] in (parts[2], "registry.py"), f"{name_of(path)} imports {target}"


def test_no_two_modules_import_each_other_at_import():
    graph = {module_name(path): {t for t in imports(path, lazy=False)} for path in MODULES}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, f"a circle of imports: {' > '.join([*above, name])}"
        if name not in done:
            for target in graph.get(name, ()):
                if target != name:
                    visit(target, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def test_what_a_page_needs_loads_no_torch():
    """Each module of every other package, imported in one fresh process."""
    free = [path for path in MODULES if path.relative_to(PACKAGE).parts[0] not in (*WITH_TORCH, "__main__.py")]
    names = [*PLANNING, *(module_name(path) for path in free)]
    assert len(names) > 50
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    assert 'torch' not in sys.modules, f'{name} loads torch'\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *names], cwd=PACKAGE.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr.splitlines()[-1]


def test_no_docstring_says_what_this_test_holds():
    for path in MODULES:
        assert not re.search(r"\bNo torch\b", path.read_text(encoding="utf-8")), name_of(path)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_is_read_at_a_sitting(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    name = name_of(path)
    assert lines <= 350, f"{name} has {lines} lines"
    assert lines >= 20 or path.name == "__init__.py" or name in SHORT, f"{name} has {lines} lines"


def test_exceptions_are_still_needed():
    lines = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert all(lines[name] < 20 for name in SHORT)


def test_the_picture_is_that_of_the_code():
    assert PICTURE.read_text(encoding="utf-8") == picture(), "run: make readme"
    assert all(f">{name}</text>" in picture() for name in jobs())
    assert picture().count(" imports ") == len(edges())
