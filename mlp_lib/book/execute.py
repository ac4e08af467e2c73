"""Execute notebooks with papermill: those of a book beside each other, or one with a reader's parameters."""

import contextlib
import importlib.util
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from mlp_lib import shared_pages
from mlp_lib.book import forked_kernels, reuse
from mlp_lib.chapters.registry import STUDIES
from mlp_lib.chapters.study import SIZES
from mlp_lib.errors import UserError
from mlp_lib.machine import usable_cores
from mlp_lib.paths import REPOSITORY
from mlp_lib.sweeps.process import environment, nothing_of_main
from mlp_lib.sweeps.workers import THREAD_VARIABLES, WAIT_POLICY

INJECTED = "injected-parameters"
READS = "from records"


def execute_all(notebooks: list[Path], folder: Path, preset: str, train: bool, kept: Path | None = None) -> list[dict]:
    """Execute `notebooks` into `folder`, one a core at a time, a line printed for each as it ends; return rows of
    notebook, preset, mode, seconds.

    Notebooks marked `{"mlp_lib": {"last": true}}` wait for all before them and are given those rows as `executed`.
    `kept`: a folder of executed copies (`reuse`), from which those that only read records are taken where nothing has
    changed, and into which they go.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = reuse.state() if kept and not train else ""
    copies: dict[Path, Path] = {}
    last = [notebook for notebook in notebooks if _own_metadata(notebook).get("last", False)]
    waves = [[notebook for notebook in notebooks if notebook not in last], *([notebook] for notebook in last)]
    side_by_side = max(1, min(usable_cores(), len(waves[0])))
    limits = {name: str(max(1, usable_cores() // side_by_side)) for name in THREAD_VARIABLES}
    forked = forked_kernels.POSSIBLE and len(notebooks) > 2 * side_by_side  # below, importing once saves nothing
    backend = forked_kernels.BACKEND if forked else {}
    rows: list[dict] = []
    with (
        tempfile.TemporaryDirectory() as shared,
        environment(**limits, **WAIT_POLICY, **backend, **{shared_pages.FOLDER: shared}),
        _pool(side_by_side) as pool,
    ):
        for wave in waves:
            futures, earlier = {}, list(rows)
            for notebook in wave:
                live = preset == "smoke" or _own_metadata(notebook).get("live", False)
                size, known = _size(notebook, preset, live), parameters_of(notebook)
                wanted = {"preset": size, "train": live or train, "executed": earlier}
                given = {name: value for name, value in wanted.items() if name in known}
                mode = "trained while building" if live else "trains what is missing" if train else READS
                row = {"notebook": notebook.stem, "preset": size, "mode": mode}
                if before and mode == READS and not given.get("executed"):
                    where = reuse.place(kept, notebook, given, before)
                    copies[where] = folder / notebook.name
                    if where.is_file():
                        shutil.copy(where, folder / notebook.name)
                        rows.append(row | {"mode": f"{READS}, in an earlier build", "seconds": 0.0})
                        print(f"  {notebook.stem:<28} unchanged", flush=True)
                        continue
                with nothing_of_main():
                    future = pool.submit(_execute_one, notebook, folder / notebook.name, given, live, forked)
                futures[future] = row
            for future in as_completed(futures):
                row = futures[future]
                try:
                    row["seconds"] = round(future.result(), 1)
                except UserError:
                    print(f"  {row['notebook']:<28} failed", flush=True)
                    raise
                print(f"  {row['notebook']:<28}{row['seconds']:7.1f} s", flush=True)
            rows += futures.values()
    if before:
        reuse.keep(copies, kept, before)
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


def _execute_one(notebook: Path, out: Path, parameters: dict, live: bool, forked: bool) -> float:
    """`execute` in a process of its own. What a live notebook trains goes into the build's own store: its numbers must
    come from this build, and building must not add records to the repository."""
    with environment(MLP_LIB_RUNS=str(out.parent.parent.parent / "runs")) if live else contextlib.nullcontext():
        return execute(notebook, out, parameters, forked)


def execute(notebook: Path, out: Path, parameters: dict | None = None, forked: bool = False) -> float:
    """Run `notebook` in its own folder with `parameters`, write the executed copy to `out`, return the seconds.

    Unlike papermill, which only logs them, unknown parameter names are refused before anything runs. The kernel is
    this interpreter, whatever kernels the user has registered; with `forked` a fork of one (`forked_kernels`).

    Raises UserError for an unknown name and for a failing cell; `out` then holds the notebook with its traceback.
    """
    need("papermill")
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
    paths = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
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
                **({"kernel_manager_class": forked_kernels.ForkedKernelManager} if forked else {}),
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
    need("papermill")
    import papermill

    if not Path(notebook).is_file():
        raise UserError(f"there is no notebook {notebook}")
    return {name: entry["default"] for name, entry in papermill.inspect_notebook(_literal(notebook)).items()}


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


def need(*modules: str) -> None:
    """Raises UserError where one of these packages is not installed."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"{', '.join(missing)} is not installed: run `make env`, or pip install -e '.[book]'")


def _literal(path: Path) -> str:
    """A path as papermill takes it: it expands {braces}, which a folder's name may hold."""
    return str(path).replace("{", "{{").replace("}", "}}")
