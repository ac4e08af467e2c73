"""Build the book: stage the sources, execute the notebooks with papermill, render with jupyter-book.

Every build starts from an empty folder, and an executed notebook is taken over only where nothing that it can depend on
has changed (`reuse`). So a page can never show a number that an older library computed:
    out/src      what jupyter-book reads: _config.yml, _toc.yml, book/ with its generated parts, the executed notebooks
    out/runs     records of the notebooks that train while the book is built
    out/html     the book
    out/build.log
    out/executed  executed notebooks, for the next build
A measurement by `make bench`, which lies in the same folder, is left there.
"""

import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from mlp_lib import __version__
from mlp_lib.book import finish, glued, reference
from mlp_lib.book.execute import execute_all, need
from mlp_lib.chapters.study import SIZES
from mlp_lib.errors import UserError
from mlp_lib.paths import REPOSITORY, user_path

ROOT = REPOSITORY
# Left in every folder a build made; without it a folder is somebody else's and is never emptied. It names the preset
# once the book is finished.
MARKER = ".mlp_lib_book"
EXECUTED = "executed"
# What `make bench` puts into the same folder, which is of no page and takes minutes to measure; and executed notebooks,
# of which `reuse` takes what still holds.
KEPT = ("bench.json", "bench.json.part", EXECUTED)
SOURCES = ("book", "notebooks", "mlp_lib", "data", "tests", "benchmarks", ".git", ".github", ".ci", ".venv")
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
    need("papermill", "jupyter_book")
    if preset not in ("auto", *SIZES):  # before anything of the last book is deleted
        raise UserError(f"unknown preset {preset!r}; there are: auto, {', '.join(SIZES)}")
    out = user_path(out, "--out").resolve() if out is not None else ROOT / "_build"
    _check_outside(out)
    pages = toc_pages(ROOT)
    _empty(out)
    src = stage(ROOT, out / "src")
    notebooks = [ROOT / page for page in pages if page.suffix == ".ipynb"]
    execute_all(notebooks, src / "notebooks", preset, train, kept=out / EXECUTED)
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
