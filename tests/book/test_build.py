"""The build: staging, execution and rendering; and the finished book, read as a browser without network would."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import jinja2
import nbformat
import pytest
import yaml
from book_of_today import SOURCES, is_of_today
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_notebook

import mlp_lib
from mlp_lib.book import build, execute, finish, forked_kernels, reuse
from mlp_lib.chapters import claims
from mlp_lib.chapters.registry import RULE_CHANGES
from mlp_lib.errors import UserError
from mlp_lib.paths import REPOSITORY

ROOT = REPOSITORY


def write_notebook(path: Path, *sources: str, about: dict | None = None) -> Path:
    """A notebook whose first cell is the parameters cell of every chapter, with `sources` as the cells after it."""
    first = 'preset: str = "auto"\ntrain: bool = True\nbudget_minutes: float = 30.0\nexecuted: list = []'
    cells = [new_code_cell(first, metadata={"tags": ["parameters"]})] + [new_code_cell(s) for s in sources]
    metadata = {"kernelspec": {"display_name": "x", "language": "python", "name": "no-such-kernel"}}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=cells, metadata=metadata | ({"mlp_lib": about} if about else {})), path)
    return path


def printed(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    return "".join(o.text for c in cells if c.cell_type == "code" for o in c.outputs if o.output_type == "stream")


# --- table of contents and staging


def test_of_a_progress_bar_only_the_last_state_is_kept():
    assert execute._without_overwritten("a\r 50%\r100%\nnext\r\n") == "100%\nnext\n"


def test_every_page_of_the_contents_is_found_in_order(tmp_path):
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: book/a\nparts:\n  - chapters:\n      - file: notebooks/n\n        sections:\n"
        "          - file: book/b\n"
    )
    for name in ("book/a.md", "book/b.md", "notebooks/n.ipynb"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [p.as_posix() for p in build.toc_pages(tmp_path)] == ["book/a.md", "notebooks/n.ipynb", "book/b.md"]
    (tmp_path / "book/b.md").unlink()
    with pytest.raises(UserError, match="_toc.yml names book/b"):
        build.toc_pages(tmp_path)


def test_staging_copies_the_sources_but_no_notebook(tmp_path):
    src = build.stage(ROOT, tmp_path / "src")
    for name in ("_toc.yml", "book/preface.md", "book/_static/custom.css"):
        assert (src / name).read_bytes() == (ROOT / name).read_bytes()
    assert not list(src.rglob("*.ipynb"))
    assert sorted(path.stem for path in (src / "book" / "generated").iterdir()) == ["api", "cli", "schema"]


def test_staged_settings_are_ours_with_version_and_date(tmp_path):
    ours = yaml.safe_load((ROOT / "_config.yml").read_text())
    staged = yaml.safe_load((build.stage(ROOT, tmp_path / "src") / "_config.yml").read_text())
    footer = staged["html"].pop("extra_footer")
    assert mlp_lib.__version__ in footer and re.search(r"built on \d{1,2} [A-Z][a-z]+ 20\d\d", footer)
    assert staged["sphinx"] == ours["sphinx"] and staged["execute"] == ours["execute"]


@pytest.mark.parametrize(
    "origin, address",
    [
        ("https://github.com/someone/some-study.git", "https://github.com/someone/some-study"),
        ("https://github.com/someone/study.v2/", "https://github.com/someone/study.v2"),
        ("https://user:secret@github.com/someone/study", "https://github.com/someone/study"),
        ("git@github.com:someone/study.git", "https://github.com/someone/study"),
        ("ssh://git@github.com/someone/study.git", "https://github.com/someone/study"),
        ("https://example.org/someone/study.git", None),
        ("https://example.org/github.com/someone/study", None),
        ("/srv/git/github.com/someone/study.git", None),
        ("../study", None),
        (None, None),
    ],
)
def test_only_a_clone_from_github_has_an_address_and_a_colab_button(tmp_path, origin, address):
    for command in (["init", "-q"], *([["remote", "add", "origin", origin]] if origin else [])):
        subprocess.run(["git", "-C", tmp_path, *command], check=True)
    shutil.copy(ROOT / "_config.yml", tmp_path)
    assert build.repository_address(tmp_path) == address
    staged = yaml.safe_load(build._config(tmp_path))
    assert (staged["repository"]["url"] or None) == address
    assert ("colab_url" in staged["launch_buttons"]) == (address is not None)
    inside = tmp_path / "unpacked"
    inside.mkdir()
    assert build.repository_address(inside) is None  # an archive unpacked inside another repository


@pytest.mark.parametrize("address", ["https://github.com/someone/study", None])
def test_the_cell_for_colab_clones_the_repository_that_the_book_was_built_from(tmp_path, monkeypatch, address):
    monkeypatch.setattr(build, "repository_address", lambda root: address)
    monkeypatch.setattr(build.reference, "write", lambda folder, address: None)
    page = (build.stage(ROOT, tmp_path / "src") / "book" / "reexecute.md").read_text()
    assert f"!git clone --quiet --depth 1 {address or 'ADDRESS'} scaling-mlps" in page


def test_a_mistyped_preset_leaves_the_last_book_as_it_is(tmp_path):
    (tmp_path / build.MARKER).touch()
    (tmp_path / "index.html").write_text("the last book")
    with pytest.raises(UserError, match="preset 'lapto'.*auto, smoke, laptop"):
        build.build("lapto", tmp_path)
    assert (tmp_path / "index.html").read_text() == "the last book"


def test_a_folder_that_no_build_made_is_not_emptied(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="not made by a book build"):
        build.build(out=tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_measurement_that_took_minutes_outlives_the_next_build(tmp_path):
    build._empty(tmp_path / "_build")
    for name in ("bench.json", "build.log", "html/index.html", "src/book/old.md"):
        path = tmp_path / "_build" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    (tmp_path / "_build" / "link").symlink_to(tmp_path)
    build._empty(tmp_path / "_build")
    assert sorted(path.name for path in (tmp_path / "_build").iterdir()) == [build.MARKER, "bench.json"]
    assert tmp_path.is_dir()


# --- execution


def test_live_notebook_trains_at_smoke_and_the_last_one_sees_the_others(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MLP_LIB_RUNS", "mine")
    show = "import os\nprint(preset, train, os.environ['MLP_LIB_RUNS'], [row['notebook'] for row in executed])"
    names = {"a": {"last": True}, "b": {"live": True}, "c": None}
    paths = [write_notebook(tmp_path / "nb" / f"{name}.ipynb", show, about=about) for name, about in names.items()]
    out = tmp_path / "out" / "src" / "notebooks"
    rows = execute.execute_all(paths, out, preset="laptop", train=False)
    assert [row["notebook"] for row in rows] == ["b", "c", "a"]
    assert printed(out / "b.ipynb").startswith(f"smoke True {tmp_path / 'out' / 'runs'} ")
    assert printed(out / "c.ipynb").startswith("laptop False mine ")
    assert printed(out / "a.ipynb") == "laptop False mine ['b', 'c']\n"
    assert re.search(r"^  b +\d+\.\d s$", capsys.readouterr().out, re.M)


def test_what_nothing_has_changed_for_is_taken_over_from_the_last_build(tmp_path, monkeypatch, capsys):
    """Every execution writes another number: an equal one was taken over."""
    (tmp_path / "mine").mkdir()
    monkeypatch.setenv("MLP_LIB_RUNS", str(tmp_path / "mine"))
    names = {"a": None, "b": {"live": True}, "c": {"last": True}}
    write = "import time\nprint(time.time_ns())"
    paths = [write_notebook(tmp_path / "nb" / f"{name}.ipynb", write, about=about) for name, about in names.items()]
    kept, numbers = tmp_path / "kept", []

    def build_again(number: int, **options) -> list[bool]:
        """Which of the three show the number of the last build."""
        out = tmp_path / f"out{number}" / "src" / "notebooks"
        rows = execute.execute_all(paths, out, **({"preset": "laptop", "train": False, "kept": kept} | options))
        assert sorted(row["notebook"] for row in rows) == ["a", "b", "c"]
        numbers.append([printed(out / path.name) for path in paths])
        return [new == old for new, old in zip(numbers[-1], numbers[-2], strict=True)] if number else []

    build_again(0)
    assert build_again(1) == [True, False, False] and re.search(r"^  a +unchanged$", capsys.readouterr().out, re.M)
    (tmp_path / "mine" / "new.json").write_text("{}")  # a record came
    assert not any(build_again(2)) and build_again(3)[0]
    write_notebook(paths[0], write + "  # other words", about=None)
    assert not any(build_again(4)) and build_again(5)[0]
    assert not build_again(6, preset="overnight")[0]  # another parameter
    monkeypatch.setenv("MLP_LIB_DATA", str(tmp_path / "images"))
    assert not build_again(7)[0]
    assert not build_again(8, train=True)[0]
    assert [path.name[:2] for path in kept.iterdir()] == ["a-"]  # what no page can use any more is gone


@pytest.mark.parametrize("seed", ["1", "2"])
def test_another_process_finds_the_same_state(seed):
    """Sets are in another order there."""
    code = "from mlp_lib.book import reuse; print(reuse.state())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": seed},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == reuse.state()


def test_nothing_is_kept_of_a_build_under_which_something_changed(tmp_path):
    copy = tmp_path / "a.ipynb"
    copy.write_text("{}")
    kept = tmp_path / "kept"
    reuse.keep({kept / "a-1.ipynb": copy}, kept, reuse.state())
    assert [path.name for path in kept.iterdir()] == ["a-1.ipynb"]
    reuse.keep({kept / "a-1.ipynb": copy}, kept, "what it was before")
    assert not list(kept.iterdir())


def test_executed_copy_hides_the_injected_cell_and_holds_no_paths(tmp_path):
    source = write_notebook(tmp_path / "{odd} name" / "n.ipynb", "import sys\nprint(sys.prefix)")
    before = source.read_bytes()
    execute.execute(source, tmp_path / "out" / "n.ipynb", {"preset": "smoke"})
    executed = nbformat.read(tmp_path / "out" / "n.ipynb", as_version=4)
    injected = [cell for cell in executed.cells if "injected-parameters" in cell.metadata.get("tags", [])]
    assert len(injected) == 1 and "hide-input" in injected[0].metadata.tags
    assert str(tmp_path) not in str(executed.metadata)
    assert source.read_bytes() == before


def test_kernel_is_this_python_and_this_library_whatever_is_installed(tmp_path, monkeypatch):
    kernel = tmp_path / "home" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text('{"argv": ["/nonexistent/python"], "display_name": "x", "language": "python"}')
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", "/nonexistent")
    source = write_notebook(tmp_path / "n.ipynb", "import sys, mlp_lib\nprint(sys.prefix, mlp_lib.__file__)")
    execute.execute(source, tmp_path / "out.ipynb")
    assert printed(tmp_path / "out.ipynb").split() == [sys.prefix, str(ROOT / "mlp_lib" / "__init__.py")]


@pytest.mark.skipif(not forked_kernels.POSSIBLE, reason="forks are not safe here")
def test_pages_of_a_book_share_imports_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "usable_cores", lambda: 1)
    show = (
        "import builtins, os, sys\n"
        "print(os.getpid(), 'pandas' in sys.modules, hasattr(builtins, 'left'), os.environ.get('LEFT'), os.getcwd())\n"
        "builtins.left, os.environ['LEFT'] = True, 'x'"
    )
    draw = "import matplotlib.pyplot as plt\nplt.plot([1, 2]);"
    paths = [write_notebook(tmp_path / "nb" / f"{name}.ipynb", show, draw) for name in "abc"]
    execute.execute_all(paths, tmp_path / "out", preset="laptop", train=False)
    told = [printed(tmp_path / "out" / path.name).split() for path in paths]
    assert len({pid for pid, *_ in told}) == 3
    assert [rest for _, *rest in told] == 3 * [["True", "False", "None", str(tmp_path / "nb")]]
    outputs = nbformat.read(tmp_path / "out" / "a.ipynb", as_version=4).cells[-1].outputs
    assert any("image/png" in output.get("data", {}) for output in outputs)  # as a kernel shows a figure

    write_notebook(paths[1], "raise RuntimeError('no such thing')")
    with pytest.raises(UserError, match="b.ipynb failed in cell .*no such thing"):
        execute.execute_all(paths, tmp_path / "again", preset="laptop", train=False)


@pytest.mark.skipif(not forked_kernels.POSSIBLE, reason="forks are not safe here")
def test_a_forked_kernel_ends_with_the_build_that_is_killed(tmp_path):
    told = tmp_path / "pid"
    page = write_notebook(
        tmp_path / "n.ipynb", f"import os, time\nopen({str(told)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)"
    )
    code = (
        f"from mlp_lib.book import execute\nexecute.execute({str(page)!r}, {str(tmp_path / 'o.ipynb')!r}, None, True)"
    )
    build_process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    wait_until(lambda: told.is_file() and told.read_text(), 60)
    build_process.kill()
    build_process.wait()
    wait_until(lambda: not Path("/proc", told.read_text()).exists(), 30)


def wait_until(come: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not come():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.1)


def test_failing_notebook_is_named_with_its_error_and_its_copy(tmp_path):
    source = write_notebook(tmp_path / "bad.ipynb", "raise RuntimeError('no such\\nthing')")
    with pytest.raises(UserError) as caught:
        execute.execute(source, tmp_path / "out" / "bad.ipynb", {"preset": "smoke"})
    message = str(caught.value)
    assert "bad.ipynb" in message and "RuntimeError: no such" in message and "\n" not in message
    assert str(tmp_path / "out" / "bad.ipynb") in message
    assert "RuntimeError" in (tmp_path / "out" / "bad.ipynb").read_text()


def test_missing_notebook_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="there is no notebook"):
        execute.execute(tmp_path / "none.ipynb", tmp_path / "out.ipynb")


# --- rendering


@pytest.mark.parametrize("address", ["https://github.com/someone/study", ""])
def test_a_shared_link_has_the_pages_description_and_an_image_where_the_repository_is_known(tmp_path, address):
    """Our part of the template, under a page's head as Sphinx makes it."""
    ours = (ROOT / "book" / "_templates" / "layout.html").read_text(encoding="utf-8")
    base = "{{ metatags }}{% block extrahead %}{% endblock %}"
    page = jinja2.Environment(loader=jinja2.DictLoader({"!layout.html": base, "layout.html": ours}))
    described = '<meta name="viewport" content="x" />\n<meta content="2 &lt; 3, &quot;so&quot;" name="description" />\n'
    for metatags, description in ((described, '2 < 3, "so"'), ("", None)):
        (tmp_path / "page.html").write_text(
            page.get_template("layout.html").render(
                metatags=metatags,
                title="<em>A</em> & B",
                docstitle="Book",
                theme_repository_url=address,
                theme_repository_branch="main",
            )
        )
        about = Page(tmp_path / "page.html").about
        assert about.get("og:description") == description and about["og:title"] == "A & B"
        assert about["twitter:card"] == ("summary_large_image" if address else "summary")
        image = "https://raw.githubusercontent.com/someone/study/main/book/_static/social-card.png"
        assert about.get("og:image") == (image if address else None)
    assert (ROOT / "book" / "_static" / "social-card.png").read_bytes().startswith(b"\x89PNG")


def test_pages_are_mended_where_ids_repeat_and_heads_have_no_scope(tmp_path):
    body = '<section id="{0}-content"><p>{0}</p></section>'
    text = body.format("exercise") * 2 + body.format("solution") + '<section id="mine"></section>'
    picture = '<figure class="align-default">\n<img></figure><div class="wide-drawing"></div>'
    fold = '<a class="current reference internal" href="#">Every family</a><details open><summary></summary></details>'
    cited = '<div class="citation" role="doc-biblioentry"></div>'
    table = '<table class="docutils"><thead><tr><th class="head"><p>a</p></th></tr></thead></table>'
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "page.html").write_text(text + table + picture + fold + cited)
    for _ in range(2):  # a second time changes nothing
        finish.mend(tmp_path)
        mended = (tmp_path / "sub" / "page.html").read_text()
        assert re.findall(r'id="([^"]*)"', mended) == ["mine"] and mended.count("<p>exercise</p>") == 2
        assert mended.count('<th scope="col" class="head">') == mended.count('<table tabindex="0"') == 1
        assert mended.count('tabindex="0"') == 3 and mended.count('role="listitem"') == 1
        assert '<summary aria-label="Pages of Every family">' in mended


def test_a_warning_fails_the_build_and_names_the_log(tmp_path, capsys):
    src = tmp_path / "src"
    src.mkdir()
    (src / "_config.yml").write_text("title: t\nonly_build_toc_files: true\n")
    (src / "_toc.yml").write_text("format: jb-book\nroot: a\n")
    (src / "a.md").write_text("# A\n\n[gone](gone.md)\n")
    with pytest.raises(UserError, match="build.log"):
        build.render(src, tmp_path)
    assert "gone.md" in capsys.readouterr().err


# --- claims without a notebook


def test_claims_are_a_table_or_json_and_train_nothing(tmp_path):
    command = [sys.executable, "-m", "mlp_lib", "claims", "--out", str(tmp_path / "runs")]
    done = subprocess.run([*command, "--json"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = json.loads(done.stdout)
    assert [entry["claim"] for entry in listed] == list(range(1, 16))
    names = {
        "claim",
        "text",
        "verdict",
        "comparison",
        "estimate",
        "interval",
        "level",
        "n",
        "unit",
        "scale",
        "chapter",
        "parts",
        "checks",
        "companion",
    }
    assert all(set(entry) == names for entry in listed)
    assert {(entry["verdict"], entry["estimate"], entry["n"]) for entry in listed} == {("not tested", None, 0)}
    assert listed[0]["chapter"] == "rq1-from-scratch" and listed[10]["chapter"] == ""  # claim 11 has no rule
    table = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert all(entry["text"] in table for entry in listed) and "about +20 points (read in the paper)" in table
    assert not (tmp_path / "runs").exists()


# --- the finished book


def test_a_book_is_of_today_until_one_of_its_sources_is_written(tmp_path):
    for name in (*SOURCES, "_build"):
        (tmp_path / name).mkdir(parents=True)
    source, record, done = tmp_path / "mlp_lib/a.py", tmp_path / "data/runs/r.json", tmp_path / "_build" / build.MARKER
    source.write_text("x")
    record.write_text("{}")
    for path in (source, record, record.parent):
        os.utime(path, (1000, 1000))

    def of_today(preset: str) -> bool:
        done.write_text(preset)
        os.utime(done, (2000, 2000))
        return is_of_today(tmp_path / "_build", tmp_path)

    assert not is_of_today(tmp_path / "_build", tmp_path)  # no book yet
    assert of_today("auto") and not of_today("smoke") and not of_today("")  # empty: the build has not ended
    os.utime(source, (3000, 3000))
    assert not of_today("auto")
    os.utime(source, (1000, 1000))
    record.unlink()  # a record that is gone is a change too
    assert not of_today("auto")


class Page(HTMLParser):
    """What a page loads, what it links to, the anchors it offers, its images and its metadata."""

    def __init__(self, path: Path):
        super().__init__()
        self.loads, self.links, self.anchors = [], [], set()
        self.images, self.about = [], {}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = {name: value or "" for name, value in attributes}
        self.anchors.update(filter(None, [values.get("id"), values.get("name")]))
        if tag == "a":
            self.links.append(values.get("href", ""))
        elif tag == "img":
            self.images.append((values.get("src", ""), values.get("alt", "")))
        elif tag == "meta":
            self.about[values.get("name") or values.get("property")] = values.get("content", "")
        elif tag == "link":
            self.loads.append(values.get("href", ""))
        for name in ("src", "poster", "data"):
            if tag in {"script", "img", "iframe", "source", "video", "audio", "embed", "object"} and values.get(name):
                self.loads.append(values[name])
        self.loads += re.findall(r"url\(\s*['\"]?([^'\")]+)", values.get("style", ""))


class Unfolded(HTMLParser):
    """The words and figures that a reader of a page sees without unfolding anything, tables and code left out, and the
    levels of its headings, all of the article."""

    EMPTY = {"br", "img", "input", "meta", "link", "hr", "col", "source"}
    NOT_PROSE = {"table", "pre", "svg", "script", "style"}

    def __init__(self, path: Path):
        super().__init__()
        self.words, self.figures, self.levels, self._inside = 0, 0, [], []
        self.feed(path.read_text(encoding="utf-8"))

    @property
    def _shown(self) -> bool:
        return "article" in self._inside and "folded" not in self._inside

    def handle_starttag(self, tag, attributes):
        kinds = (dict(attributes).get("class") or "").split()
        self.figures += tag == "img" and self._shown
        if re.fullmatch("h[1-6]", tag) and "article" in self._inside:
            self.levels.append(int(tag[1]))
        if tag not in self.EMPTY:
            self._inside.append("folded" if tag == "details" or "dropdown" in kinds else tag)

    def handle_endtag(self, tag):
        if tag not in self.EMPTY:
            self._inside.pop()

    def handle_data(self, text):
        if self._shown and not self.NOT_PROSE & {*self._inside}:
            self.words += len(text.split())


def remote(address: str) -> bool:
    return bool(urlsplit(address).netloc)


@pytest.fixture(scope="session")
def pages(html) -> dict[Path, Page]:
    return {path: Page(path) for path in html.rglob("*.html") if "_static" not in path.parts}


@pytest.mark.slow
def test_book_has_every_page_of_the_contents(html):
    for page in build.toc_pages(ROOT):
        assert (html / page.with_suffix(".html")).is_file()
    assert (html / "index.html").is_file()


@pytest.mark.slow
def test_book_loads_nothing_from_another_host(html, pages):
    loaded = {f"{path.name}: {address}" for path, page in pages.items() for address in page.loads if remote(address)}
    for css in html.rglob("*.css"):
        found = re.findall(r"(?:url\(\s*['\"]?|@import\s+['\"])([^'\")]+)", css.read_text(encoding="utf-8"))
        loaded |= {f"{css.name}: {address}" for address in found if remote(address)}
    for path in pages:  # scripts written into the page may load more
        inline = re.findall(r"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", path.read_text(encoding="utf-8"), re.S)
        loaded |= {f"{path.name}: {url}" for text in inline for url in re.findall(r"https?://[^\s\"'\\]+", text)}
    assert not loaded


@pytest.mark.slow
def test_every_internal_link_anchor_and_file_exists(html, pages):
    broken = set()
    for path, page in pages.items():
        for address in page.links + page.loads:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc or address in {"", "#"}:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                broken.add(f"{path.name}: {address}")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                broken.add(f"{path.name}: {address}")
    assert not broken


@pytest.mark.slow
def test_book_holds_no_path_of_the_machine_that_built_it(html, pages):
    texts = {path: path.read_text(encoding="utf-8") for path in [*pages, *(html / "_sources").rglob("*.ipynb")]}
    assert not [path.name for path, text in texts.items() if str(html.parent) in text or str(ROOT) in text]


@pytest.mark.slow
def test_no_id_stands_twice_and_no_page_is_heavy(html, pages):
    for path in (html / page.with_suffix(".html") for page in build.toc_pages(ROOT)):  # the search page is the theme's
        ids = re.findall(r'<[^>]* id="([^"]+)"', path.read_text(encoding="utf-8"))
        assert not {name for name in ids if ids.count(name) > 1}, path.name
        images = {src for src, _ in pages[path].images if not remote(src)}
        own = [path, *((path.parent / unquote(src)).resolve() for src in images if not src.startswith("data:"))]
        assert sum(file.stat().st_size for file in own) <= 3e6, f"{path.name} weighs more than 3 MB"


@pytest.mark.slow
def test_a_page_can_be_read_at_a_sitting_and_its_headings_are_nested(html):
    for path in sorted((html / "notebooks").glob("*.html")):
        page = Unfolded(path)
        assert 0 < page.words <= 2500 and page.figures <= 8, f"{path.name}: {page.words} words, {page.figures} figures"
        assert page.levels[0] == 1 and page.levels.count(1) == 1, path.name
        assert all(b <= a + 1 for a, b in zip(page.levels, page.levels[1:], strict=False)), path.name


@pytest.mark.slow
def test_no_file_name_is_taken_for_an_address(pages):
    links = {link for page in pages.values() for link in page.links}
    assert not {link for link in links if re.fullmatch(r"https?://[\w.-]+\.(py|md|json)/?", link)}


def sentence_lengths(path: Path) -> list[int]:
    """Words of every sentence of a page's article, of what stands outside folds, tables, code and formulas."""
    article = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser").select_one("article")
    for other in article.select("details, table, pre, figure, script, style, .math, .dropdown"):
        other.decompose()
    texts = [" ".join(e.get_text(" ").split()) for e in article.select("p, li") if not e.find(["p", "li"])]
    sentences = [s for text in texts for s in re.split(r"(?<=[.?!:])\s+(?=[A-Z“\"0-9])", text)]
    return [len(re.findall(r"[A-Za-z][\w'’-]*", sentence)) for sentence in sentences]


@pytest.mark.slow
def test_sentences_are_short(html):
    for path in sorted((html / "notebooks").glob("*.html")):
        lengths = sentence_lengths(path)
        assert sum(lengths) / len(lengths) <= 18 and max(lengths) <= 40, f"{path.name}: {sorted(lengths)[-3:]}"


@pytest.mark.slow
def test_every_image_is_described_in_words(pages):
    images = [(path.name, src, alt) for path, page in pages.items() for src, alt in page.images]
    assert len(images) >= 5  # quickstart and the first chapter
    for name, src, alt in images:
        assert len(alt.split()) >= 2 and Path(src).stem not in alt, f"{name}: {src} has no description"


@pytest.mark.slow
def test_every_page_says_what_it_is_where_it_is_shared(html, pages):
    for page in build.toc_pages(ROOT):
        about = pages[html / page.with_suffix(".html")].about
        assert len(about.get("description", "").split()) >= 5 and about["og:title"], f"{page} has no description"
        assert "og:site_name" in about and about["og:description"] == about["description"]
        assert about["twitter:card"].startswith("summary")
        assert ("og:image" in about) == bool(build.repository_address(ROOT))


@pytest.mark.slow
def test_claims_page_judges_all_fifteen_and_the_preface_quotes_it(html):
    text = (html / "notebooks" / "claims.html").read_text(encoding="utf-8")
    rows = re.findall(r"<td[^>]*>(\d+)\. (.*?)</td>.*?<strong>(.*?)</strong>", text, re.S)
    assert [int(number) for number, _, _ in rows] == list(range(1, 16))
    assert {verdict for _, _, verdict in rows} <= set(claims.VERDICTS)
    assert [verdict for _, _, verdict in rows] == [verdict.verdict for verdict in claims.judge_all()]
    assert [int(number) for number in re.findall(r'<li id="claim-(\d+)"', text)] == list(range(1, 16))
    assert "None so far." in text if not RULE_CHANGES else RULE_CHANGES[-1][0] in text
    front = (html / "book" / "preface.html").read_text(encoding="utf-8")
    marks = re.findall(r'<li class="verdict-(\w+)"><a href="([^"]+)"', front)
    assert len(marks) == 15 and all((html / "book" / link.split("#")[0]).is_file() for _, link in marks)
    assert "wide-drawing on-white" in front and "blocks-drawing" in front
    tested = sum(verdict != claims.NOT_TESTED for _, _, verdict in rows)
    quoted = re.search(r"pasted-text.*?(\d+ of 15)", (html / "book" / "preface.html").read_text(encoding="utf-8"), re.S)
    assert quoted and quoted[1] == f"{tested} of 15"


@pytest.mark.slow
def test_download_button_gives_the_notebook_of_the_repository(html, pages):
    for page in build.toc_pages(ROOT):
        if page.suffix == ".ipynb":
            path = html / page.with_suffix(".html")
            [link] = [link for link in pages[path].links if link.endswith(".ipynb") and "_sources" in link]
            assert (path.parent / link).read_bytes() == (ROOT / page).read_bytes()


@pytest.mark.slow
def test_reference_pages_have_an_anchor_for_every_function(html, pages):
    assert {"mlp_lib.stats.intervals.t_interval", "mlp_lib.records.run.Run.key"} <= pages[
        html / "book" / "api.html"
    ].anchors
    assert {"train", "claims"} <= pages[html / "book" / "cli.html"].anchors
    assert "the-entries-of-a-record" in pages[html / "book" / "schema.html"].anchors


@pytest.mark.slow
def test_formulas_are_rendered_by_the_local_mathjax(html, pages):
    scripts = [address for address in pages[html / "book" / "preface.html"].loads if "mathjax" in address.lower()]
    assert scripts and all((html / "book" / urlsplit(address).path).is_file() for address in scripts)
