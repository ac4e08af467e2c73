"""Build the book: stage the sources, execute the notebooks with papermill, render with jupyter-book.

Every build starts from an empty folder, so a page can never show a number that an older library computed:
    out/src      what jupyter-book reads: _config.yml, _toc.yml, book/ with its generated parts, the executed notebooks
    out/runs     records of the notebooks that train while the book is built
    out/html     the book
    out/build.log
A measurement by `make bench`, which lies in the same folder, is left there.
"""

import contextlib
import importlib.util
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from pathlib import Path

from mlp_lib import __version__
from mlp_lib.book import finish, glued, reference
from mlp_lib.chapters.registry import STUDIES
from mlp_lib.chapters.study import SIZES
from mlp_lib.errors import UserError
from mlp_lib.machine import usable_cores
from mlp_lib.paths import REPOSITORY, user_path
from mlp_lib.sweeps.process import environment, nothing_of_main
from mlp_lib.sweeps.workers import THREAD_VARIABLES, WAIT_POLICY

ROOT = REPOSITORY
# Left in every folder a build made; without it a folder is somebody else's and is never emptied. It names the preset
# once the book is finished.
MARKER = ".mlp_lib_book"
# What `make bench` puts into the same folder; it is of no page, and takes minutes to measure.
KEPT = ("bench.json", "bench.json.part")
SOURCES = ("book", "notebooks", "mlp_lib", "data", "tests", "benchmarks", ".git", ".github", ".ci", ".venv")
INJECTED = "injected-parameters"
CLONE = "git clone --quiet --depth 1 "  # in the cell for Colab; what follows it is known to a build only
GITHUB = re.compile(r"(?:https://(?:[^@/]+@)?|ssh://git@|git@)github\.com[:/]([\w.-]+)/([\w.-]+?)(?:\.git)?/?")
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def build(preset: str = "auto", out: Path | None = None, train: bool = False) -> Path:
    """Build the whole book into `out` (default `_build`), which is emptied first, and return its `index.html`.

    Every notebook gets `preset` and `train`; without `train` a missing record is shown as "not run", never trained.
    A notebook that carries `{"mlp_lib": {"live": true}}`, and at the smoke preset every notebook, trains at the smoke
    preset into a store of the build's own.

    Raises UserError when a notebook fails (its name, its error, the executed copy), when jupyter-book warns (the
    log), or when `out` holds something that no build put there.
    """
    _need("papermill", "jupyter_book")
    if preset not in ("auto", *SIZES):  # before anything of the last book is deleted
        raise UserError(f"unknown preset {preset!r}; there are: auto, {', '.join(SIZES)}")
    out = user_path(out, "--out").resolve() if out is not None else ROOT / "_build"
    _check_outside(out)
    pages = toc_pages(ROOT)
    _empty(out)
    src = stage(ROOT, out / "src")
    notebooks = [ROOT / page for page in pages if page.suffix == ".ipynb"]
    execute_all(notebooks, src / "notebooks", preset, train)
    glued.name_runs(src)
    index = render(src, out)
    for notebook in notebooks:  # what a page's download button gives: the source, with the parameters' own defaults
        shutil.copy(notebook, out / "html" / "_sources" / "notebooks" / notebook.name)
    (out / MARKER).write_text(preset, encoding="utf-8")
    return index


def toc_pages(root: Path) -> list[Path]:
    """Every page that `root/_toc.yml` names, in order, relative to `root` and with its suffix; all must exist."""
    import yaml

    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    pages = []
    for name in _files_of(toc):
        found = [Path(name + suffix) for suffix in (".md", ".ipynb") if (root / (name + suffix)).is_file()]
        if not found:
            raise UserError(
                f"_toc.yml names {name}, but there is no {name}.md or {name}.ipynb: add it, or remove the line"
            )
        pages.append(found[0])
    return pages


def _files_of(node) -> list[str]:
    """The values of `root` and `file` anywhere below a node of the table of contents, in order."""
    if isinstance(node, dict):
        own = [node[key] for key in ("root", "file") if key in node]
        return own + [name for value in node.values() for name in _files_of(value)]
    if isinstance(node, list):
        return [name for item in node for name in _files_of(item)]
    return []


def stage(root: Path, src: Path) -> Path:
    """Write what jupyter-book reads, less the notebooks, from `root` to the new folder `src`; return `src`."""
    (src / "notebooks").mkdir(parents=True)
    shutil.copy(root / "_toc.yml", src / "_toc.yml")
    (src / "_config.yml").write_text(_config(root), encoding="utf-8")
    shutil.copytree(root / "book", src / "book", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    if address := repository_address(root):
        page = src / "book" / "reexecute.md"
        page.write_text(page.read_text(encoding="utf-8").replace(CLONE + "ADDRESS", CLONE + address), encoding="utf-8")
    reference.write(src / "book" / "generated", address)
    return src


def _config(root: Path) -> str:
    """`root/_config.yml` with what only a build knows: version, date, and buttons where the repository is on GitHub."""
    import yaml

    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    built = datetime.now(UTC)
    config["html"]["extra_footer"] = f"Version {__version__}, built on {built.day} {built:%B %Y}."
    address = repository_address(root)
    if address:
        config["repository"] |= {"url": address, "branch": "main"}
        config["html"]["use_repository_button"] = True
        config["launch_buttons"]["colab_url"] = "https://colab.research.google.com"
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True)


def repository_address(root: Path) -> str | None:
    """The web address of the GitHub repository that `root` was cloned from; None for any other origin, or none."""
    if not (root / ".git").exists():  # not the origin of a repository that merely surrounds this folder
        return None
    command = ["git", "-C", str(root), "remote", "get-url", "origin"]
    try:
        origin = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    found = GITHUB.fullmatch(origin)
    return f"https://github.com/{found[1]}/{found[2]}" if found else None


def execute_all(notebooks: list[Path], folder: Path, preset: str, train: bool) -> list[dict]:
    """Execute `notebooks` into `folder`, one a core at a time, a line printed for each as it ends; return rows of
    notebook, preset, mode, seconds.

    Notebooks marked `{"mlp_lib": {"last": true}}` wait for all before them and are given those rows as `executed`.
    """
    last = [notebook for notebook in notebooks if _own_metadata(notebook).get("last", False)]
    waves = [[notebook for notebook in notebooks if notebook not in last], *([notebook] for notebook in last)]
    side_by_side = max(1, min(usable_cores(), len(waves[0])))
    limits = {name: str(max(1, usable_cores() // side_by_side)) for name in THREAD_VARIABLES}
    rows: list[dict] = []
    with environment(**limits, **WAIT_POLICY), _pool(side_by_side) as pool:
        for wave in waves:
            futures = {}
            for notebook in wave:
                live = preset == "smoke" or _own_metadata(notebook).get("live", False)
                size, known = _size(notebook, preset, live), parameters_of(notebook)
                wanted = {"preset": size, "train": live or train, "executed": list(rows)}
                given = {name: value for name, value in wanted.items() if name in known}
                mode = "trained while building" if live else "trains what is missing" if train else "from records"
                with nothing_of_main():
                    future = pool.submit(_execute_one, notebook, folder / notebook.name, given, live)
                futures[future] = {"notebook": notebook.stem, "preset": size, "mode": mode}
            for future in as_completed(futures):
                row = futures[future]
                try:
                    row["seconds"] = round(future.result(), 1)
                except UserError:
                    print(f"  {row['notebook']:<28} failed", flush=True)
                    raise
                print(f"  {row['notebook']:<28}{row['seconds']:7.1f} s", flush=True)
            rows += futures.values()
    return rows


@contextlib.contextmanager
def _pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that execute notebooks. Where one fails, or the build is stopped, the others stop at once."""
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _size(notebook: Path, preset: str, live: bool) -> str:
    """The preset a notebook gets: not every chapter has every size."""
    page = notebook.stem.removesuffix("-details")  # an appendix has the sizes of its chapter
    own = next((study.presets for study in STUDIES.values() if study.page == page), SIZES)
    return "smoke" if live else preset if preset in own else "auto"


def _execute_one(notebook: Path, out: Path, parameters: dict, live: bool) -> float:
    """`execute` in a process of its own. What a live notebook trains goes into the build's own store: its numbers must
    come from this build, and building must not add records to the repository."""
    with environment(MLP_LIB_RUNS=str(out.parent.parent.parent / "runs")) if live else contextlib.nullcontext():
        return execute(notebook, out, parameters)


def execute(notebook: Path, out: Path, parameters: dict | None = None) -> float:
    """Run `notebook` in its own folder with `parameters`, write the executed copy to `out`, return the seconds.

    Unlike papermill, which only logs them, unknown parameter names are refused before anything runs. The kernel is
    this interpreter, whatever kernels the user has registered.

    Raises UserError for an unknown name and for a failing cell; `out` then holds the notebook with its traceback.
    """
    _need("papermill")
    import nbformat
    import papermill

    notebook, out, parameters = Path(notebook), Path(out), dict(parameters or {})
    known = parameters_of(notebook)
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise UserError(f"{notebook.name} has no parameter {', '.join(unknown)}; it has: {', '.join(known)}")
    out.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    # JUPYTER_PATH comes before the user's own kernels, PYTHONPATH before any other copy of the library.
    kernels = str(Path(sys.prefix) / "share" / "jupyter")
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with environment(JUPYTER_PATH=kernels, PYTHONPATH=paths, PYDEVD_DISABLE_FILE_VALIDATION="1"):
        try:
            papermill.execute_notebook(
                _literal(notebook),
                _literal(out),
                parameters=parameters,
                kernel_name="python3",
                cwd=str(notebook.resolve().parent),
                progress_bar=False,
                start_timeout=180,
                extra_arguments=["--log-level=50"],  # the kernel's own warnings, not the notebook's
            )
        except papermill.PapermillExecutionError as error:
            reason = f"{error.ename}: {error.evalue}".strip().splitlines()[0]
            raise UserError(
                f"notebook {notebook.name} failed in cell [{error.exec_count}]: {reason} (traceback in {out})"
            ) from error
    seconds = time.perf_counter() - start
    executed = nbformat.read(out, as_version=4)
    nbformat.write(_tidied(executed), out)
    return seconds


def parameters_of(notebook: Path) -> dict[str, str]:
    """The parameters a notebook declares: name -> default, as source text."""
    _need("papermill")
    import papermill

    if not Path(notebook).is_file():
        raise UserError(f"there is no notebook {notebook}")
    return {name: entry["default"] for name, entry in papermill.inspect_notebook(_literal(notebook)).items()}


def render(src: Path, out: Path) -> Path:
    """Render the staged book `src` to `out/html`; any warning of jupyter-book is an error. Return `index.html`."""
    log, made = out / "build.log", out / "jupyter-book"
    command = [
        sys.executable,
        "-c",
        "from jupyter_book.cli.main import main; main()",
        "build",
        "-W",
        "-n",
        "--keep-going",
        "--path-output",
        str(made),
        str(src),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    said = COLOURS.sub("", done.stdout.decode("utf-8", errors="replace"))
    log.write_text(said, encoding="utf-8")
    if done.returncode != 0:
        lines = said.splitlines()
        for line in [line for line in lines if "WARNING" in line or "ERROR" in line] or lines[-20:]:
            print(line, file=sys.stderr)
        raise UserError(f"jupyter-book found something wrong in the pages (above); all of what it said is in {log}")
    shutil.move(made / "_build" / "html", out / "html")
    shutil.rmtree(made)
    finish.mend(out / "html")
    return out / "html" / "index.html"


def _tidied(notebook):
    """An executed notebook without the build machine's paths, and with the cell that papermill adds hidden."""
    for name in ("input_path", "output_path"):
        notebook.metadata.get("papermill", {}).pop(name, None)
    hidden = "hide-input"
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                output.text = _without_overwritten(output.text)
        tags = cell.metadata.get("tags", [])
        if "parameters" in tags and "remove-input" in tags:
            hidden = "remove-input"  # papermill does not hand the tags down
        if INJECTED in tags and hidden not in tags:
            cell.metadata["tags"] = [*tags, hidden]
    return notebook


def _without_overwritten(text: str) -> str:
    """What a terminal would still show: of each line, what follows its last carriage return (progress bars)."""
    return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n"))


def _own_metadata(notebook: Path) -> dict:
    import nbformat

    return nbformat.read(notebook, as_version=4).metadata.get("mlp_lib", {})


def _check_outside(out: Path) -> None:
    """Raises UserError for a folder in which a build would copy, or delete, what it is made from."""
    if ROOT.resolve().is_relative_to(out):
        raise UserError(f"{out} holds the sources of the book; name a folder that is empty or new, such as _build")
    if out.is_relative_to(ROOT.resolve()) and out.relative_to(ROOT.resolve()).parts[0] in SOURCES:
        raise UserError(f"{out} is inside the sources, which a build copies; name a folder outside, such as _build")


def _empty(out: Path) -> None:
    """Make `out` an empty folder but for `KEPT`, refusing to delete anything that a build did not make."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: name a folder for the book")
    ours = out == ROOT / "_build" or (out / MARKER).exists()
    if out.is_dir() and any(out.iterdir()) and not ours:
        raise UserError(
            f"{out} is not empty and was not made by a book build: name another folder, or empty it yourself"
        )
    out.mkdir(parents=True, exist_ok=True)
    for path in out.iterdir():
        if path.name in KEPT:
            continue
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    (out / MARKER).touch()


def _need(*modules: str) -> None:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"{', '.join(missing)} is not installed: run `make env`, or pip install -e '.[book]'")


def _literal(path: Path) -> str:
    """A path as papermill takes it: it expands {braces}, which a folder's name may hold."""
    return str(path).replace("{", "{{").replace("}", "}}")
