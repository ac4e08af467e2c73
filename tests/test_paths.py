"""One function says what a path that a user gives means; what cannot be one is a line."""

import os
import pwd

import pytest
from helpers import forget, one_line

from mlp_lib import cli, datasets
from mlp_lib.book import build
from mlp_lib.errors import UserError
from mlp_lib.paths import REPOSITORY, is_pointer, path_from_environment, shown, user_path, whats_wrong
from mlp_lib.records.store import Store, default_folder


def test_what_a_path_means(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    me = pwd.getpwuid(os.getuid())
    assert user_path("~/runs") == tmp_path / "home" / "runs" and user_path("~") == tmp_path / "home"
    assert str(user_path(f"~{me.pw_name}/x")) == f"{me.pw_dir.rstrip('/')}/x"
    assert user_path("runs/../a//b/") == tmp_path / "a" / "b" and user_path("/x/y") == user_path(b"/x/y")
    assert user_path("a~b/~c") == tmp_path / "a~b" / "~c" and user_path("a b") == tmp_path / "a b"
    assert user_path("x", base=REPOSITORY) == REPOSITORY / "x"
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    assert user_path("link") == tmp_path / "link"  # links stay links


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "~nosuchuser/runs",
        "~nosuchuser",
        "$HOME/runs",
        "${X}",
        "a\nb",
        "caf\udce9",
        "a\0b",
        "~x\0/",
        "a\x1b[0m",
    ],
)
def test_what_is_no_path_is_one_line(text):
    for look in (user_path, Store, lambda t: datasets.load("digits", t), lambda t: build.build(out=t)):
        with pytest.raises(UserError) as error:
            look(text)
        one_line(error).encode()


def test_a_current_folder_that_is_gone(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here").rmdir()
    with pytest.raises(UserError, match="the current folder, which is gone"):
        user_path("runs")
    assert user_path("/x").is_absolute()


def test_a_relative_folder_in_the_environment_is_one_folder_for_all(tmp_path, monkeypatch):
    monkeypatch.setenv("MLP_LIB_RUNS", "my-runs")
    monkeypatch.setenv("MLP_LIB_DATA", "my-data")
    for folder in (tmp_path, REPOSITORY, REPOSITORY / "notebooks"):
        monkeypatch.chdir(folder)
        assert default_folder() == Store().folder == REPOSITORY / "my-runs"
        assert datasets.data_root() == REPOSITORY / "my-data"
    monkeypatch.setenv("MLP_LIB_RUNS", "~/r")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Store().folder == tmp_path / "r"
    monkeypatch.setenv("MLP_LIB_RUNS", "")
    assert Store().folder == REPOSITORY / "data" / "runs" == path_from_environment("MLP_LIB_RUNS", Store().folder)


def test_the_line_that_says_where_a_record_went_is_absolute(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for out, folder in (("runs", tmp_path / "runs"), ("~/runs", tmp_path / "home" / "runs")):
        arguments = f"mlp_lib train --model B-1/Wi-8 --dataset digits --steps 2 --threads 1 --device cpu --out={out}"
        monkeypatch.setattr("sys.argv", arguments.split())
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("record: ")]
        assert line.startswith(f"record: {folder}/") and os.path.exists(line.removeprefix("record: "))
    assert not (tmp_path / "~").exists()


def test_what_is_wrong_with_a_file(tmp_path):
    path = tmp_path / "x"
    assert whats_wrong(path, FileNotFoundError(2, "No such file")) == "it is not there, or a link to nothing"
    path.write_bytes(b"")
    assert whats_wrong(path, ValueError("odd")) == "it is empty"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert is_pointer(path) and whats_wrong(path, ValueError("odd")).startswith("it is a Git LFS pointer, not the file")
    path.write_text("something")
    assert whats_wrong(path, ValueError("two\nlines")) == "two lines" and not is_pointer(path)
    assert whats_wrong(tmp_path, ValueError("odd")) == "it is a folder" and not is_pointer(tmp_path)
    assert shown("a\nb\udce9é") == "a\\nb\\udce9é"


@pytest.mark.parametrize(
    "inside", ["book", "book/new", "notebooks/_build", "mlp_lib/x", "data/x", "tests/x", ".", ".."]
)
def test_a_book_is_not_built_into_what_it_is_made_from(inside):
    before = sorted(os.listdir(REPOSITORY / "book"))
    with pytest.raises(UserError, match="inside the sources|holds the sources") as error:
        build.build(out=REPOSITORY / inside)
    one_line(error)
    assert sorted(os.listdir(REPOSITORY / "book")) == before
    forget()


def test_a_link_into_the_sources_is_inside_them(tmp_path):
    (tmp_path / "link").symlink_to(REPOSITORY / "book")
    with pytest.raises(UserError, match="inside the sources"):
        build.build(out=tmp_path / "link" / "x")
    build._check_outside(REPOSITORY / "_build")
    build._check_outside(REPOSITORY / "book-of-mine")
