"""Folders of image files: what counts as an image and a class, what is left out, copies that never change."""

import os
import subprocess
import sys

import numpy as np
import pytest
from helpers import forget, image_tree, nobody, one_line, picture
from PIL import Image

from mlp_lib import datasets
from mlp_lib.datasets import decode, folders
from mlp_lib.errors import UserError
from mlp_lib.paths import REPOSITORY


def refused(name: str, message: str, look=datasets.load) -> str:
    forget()
    with pytest.raises(UserError, match=message) as error:
        look(name)
    return one_line(error)


@pytest.mark.parametrize("ending", ["webp", "bmp", "tif", "TIFF", "gif", "ppm", "jfif", "JPE", "tga", "jp2"])
def test_what_pillow_reads_is_read(root, ending):
    folder = image_tree(root / "set")
    for path in (folder / "test" / "b").iterdir():
        kind = {"tif": "TIFF", "jfif": "JPEG", "JPE": "JPEG", "jp2": "JPEG2000"}.get(ending, ending.upper())
        Image.open(path).resize((16, 16)).save(path.with_suffix(f".{ending}"), kind)
        path.unlink()
    images = datasets.load("folder:set@8")
    assert images.test_labels.tolist() == [0, 0, 1, 1] and images.facts.test_size == 4


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("way", ["gone", "empty", "other"])
def test_a_class_that_is_empty_in_any_part_is_refused(root, part, way):
    folder = image_tree(root / "set")
    for path in (folder / part / "b").iterdir():
        path.rename(path.with_suffix(".heic")) if way == "other" else path.unlink()
    if way == "gone" and part == "test":
        (folder / part / "b").rmdir()
    said = refused("folder:set@8", f"{part}/b holds no image")
    assert ("only 2 other files, like " in said) == (way == "other")


def test_what_is_left_out_is_counted_and_named(root, capsys):
    folder = image_tree(root / "set")
    loose = ("train/loose.png", "test/list.csv")
    for name in (*loose, "train/a/c", "train/a/notes.txt", "test/b/raw.heic", "test/a/SHA256.Txt"):
        (folder / name).write_bytes(b"x")
    datasets.load("folder:set@8")
    said = capsys.readouterr().out
    assert "4 files are no images that can be read, and are left out: train/a/c, train/a/notes.txt" in said
    assert "(.heic, .txt, no ending)" in said and "val/" not in said
    assert f"2 files lie beside the folders of classes, and are left out: {', '.join(loose)}" in said
    image_tree(root / "set", parts=("val",))
    forget()
    assert datasets.load("folder:set@8").facts.test_size == 4
    assert "val/ is not read, because there is test/" in capsys.readouterr().out


def test_hidden_files_and_folders_are_neither_images_nor_classes(root, capsys):
    folder = image_tree(root / "set")
    expected = datasets.load("folder:set@8").fingerprint
    for name in ("train/.DS_Store", "train/a/._0.png", "test/b/Thumbs.db", "train/b/.hidden.png", "test/desktop.ini"):
        (folder / name).write_bytes(b"not an image")
    for name in ("train/.ipynb_checkpoints", "train/__MACOSX", "test/.cache", "train/a/.ipynb_checkpoints"):
        (folder / name).mkdir()
        picture(3, (8, 8)).save(folder / name / "0.png")
    forget()
    capsys.readouterr()
    again = datasets.load("folder:set@8")
    assert again.fingerprint == expected and again.classes == ("a", "b") and capsys.readouterr().out == ""


def test_links_are_followed_and_broken_ones_named(root, tmp_path_factory):
    folder, elsewhere = image_tree(root / "set"), tmp_path_factory.mktemp("more")
    picture(5, (8, 8)).save(elsewhere / "y.png")
    (folder / "train" / "a" / "linked").symlink_to(elsewhere)
    assert datasets.load("folder:set@8").facts.train_size == 5
    (folder / "train" / "a" / "gone.png").symlink_to(elsewhere / "nothing.png")
    refused("folder:set@8", "a/gone.png cannot be read: it is not there, or a link to nothing")
    (folder / "train" / "a" / "gone.png").unlink()
    (folder / "train" / "a" / "self.png").symlink_to(folder / "train" / "a" / "self.png")
    refused("folder:set@8", "a/self.png cannot be read: ")
    (folder / "train" / "a" / "self.png").unlink()
    (folder / "train" / "a" / "up").symlink_to(folder / "train")
    refused("folder:set@8", "up/a.* is a link to a folder that it lies in|up is a link to a folder that it lies in")


def test_a_folder_called_like_an_image_and_a_pipe(root):
    folder = image_tree(root / "set")
    (folder / "train" / "a" / "x.png").mkdir()
    assert datasets.load("folder:set@8").facts.train_size == 4
    os.mkfifo(folder / "train" / "a" / "pipe.png")
    refused("folder:set@8", "pipe.png is no regular file")


@pytest.mark.parametrize("part", ["train", "test"])
def test_what_may_not_be_read_is_never_skipped(open_root, part):
    folder = image_tree(open_root / "set")
    datasets.load("folder:set@4")  # imports done
    (open_root / "decoded").chmod(0o777)
    for path in (folder / part / "b", folder / part, folder):
        mode = path.stat().st_mode
        path.chmod(0)
        with nobody():
            refused("folder:set@8", "cannot be (listed|read): permission denied; change its permissions")
        path.chmod(mode)
    (folder / part / "b" / "0.png").chmod(0)
    with nobody():
        refused("folder:set@8", "b/0.png cannot be decoded .permission denied")
    (folder / part / "b" / "0.png").chmod(0o644)
    (open_root / "decoded").chmod(0o555)
    with nobody():
        refused("folder:set@8", "cannot write .*: Permission denied; decoded copies go to .*: make it writable")


@pytest.mark.parametrize("where", ["train/a/{}.png", "train/{}/0.png", "test/b/{}.txt"])
def test_names_that_are_no_utf8_are_one_line(root, where):
    folder = image_tree(root / "set")
    path = os.path.join(os.fsencode(folder), os.fsencode(where).replace(b"{}", b"caf\xe9"))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(b"x")
    said = refused("folder:set@8", r"caf\\udce9.* the name is no UTF-8, or has control characters; rename")
    said.encode()


def test_names_with_odd_spaces_are_names_and_those_with_breaks_are_not(root):
    folder = image_tree(root / "set", classes=("a", "of\u00a0b"))
    picture(3, (8, 8)).save(folder / "train" / "a" / "Screenshot at 9.41\u202fPM.png")
    assert datasets.load("folder:set@8").facts.train_size == 5
    picture(3, (8, 8)).save(folder / "train" / "a" / "a\nb.png")
    refused("folder:set@8", r"a/a\\nb.png: the name is no UTF-8, or has control characters; rename it")


def test_a_git_lfs_pointer_in_the_place_of_an_image(root):
    folder = image_tree(root / "set")
    (folder / "train" / "a" / "0.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")
    refused("folder:set@8", "a/0.png cannot be decoded .it is a Git LFS pointer, not the file itself; run git lfs pull")


# --- decoded copies


def test_a_copy_that_is_mapped_never_changes(root):
    folder = image_tree(root / "set")
    before = datasets.load("folder:set@8")
    kept = before.train_images.copy()
    (copy,) = (p for p in (root / "decoded").iterdir() if p.is_dir())
    state = {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in copy.iterdir()}
    picture(99, (8, 8)).save(folder / "train" / "a" / "0.png")
    (folder / "train" / "b" / "1.png").unlink()
    forget()
    after = datasets.load("folder:set@8")
    assert len(after.train_images) == 3 and after.fingerprint != before.fingerprint
    assert {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in copy.iterdir()} == state
    assert np.array_equal(before.train_images, kept) and not any(p.stat().st_mode & 0o222 for p in copy.iterdir())


def test_a_change_that_leaves_size_and_time_is_noticed(root):
    folder = image_tree(root / "set")
    path = folder / "train" / "a" / "0.bmp"
    picture(1, (8, 8)).save(path)
    first, state = datasets.load("folder:set@8"), path.stat()
    picture(2, (8, 8)).save(path)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert path.stat().st_size == state.st_size
    forget()
    assert datasets.load("folder:set@8").fingerprint != first.fingerprint


def test_files_that_change_while_they_are_decoded_are_refused(root, monkeypatch):
    folder = image_tree(root / "set")
    decoded = decode._pixels

    def meanwhile(name, *rest):
        picture(50, (8, 8)).save(folder / "train" / "a" / "0.png")
        return decoded(name, *rest)

    monkeypatch.setattr(decode, "_pixels", meanwhile)
    refused("folder:set@8", "files were changed while they were decoded; run again")
    assert not [p for p in (root / "decoded").iterdir() if p.is_dir()]


def test_a_damaged_copy_is_named_and_left_alone(root):
    image_tree(root / "set")
    datasets.load("folder:set@8")
    (copy,) = (p for p in (root / "decoded").iterdir() if p.is_dir())
    for name, content in (
        ("train-images.npy", b"short"),
        ("index.json", b"[" * 100_000),
        ("test-labels.npy", b""),
        ("index.json", b"\xff"),
    ):
        kept = (copy / name).read_bytes()
        (copy / name).chmod(0o644)
        (copy / name).write_bytes(content)
        refused("folder:set@8", "is damaged .*; delete it and run again")
        (copy / name).write_bytes(kept)
    forget()
    datasets.load("folder:set@8")


def test_where_the_file_system_has_no_locks_the_first_copy_is_kept(root, monkeypatch):
    image_tree(root / "set")

    def no_locks(self, *_, **__):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(decode.filelock.FileLock, "acquire", no_locks)
    first = datasets.load("folder:set@8").fingerprint
    forget()
    write = decode._write

    def slower(part, signature, *rest):  # another process puts its copy in place while this one decodes
        write(part, signature, *rest)
        monkeypatch.setattr(decode, "_write", write)
        forget()
        assert datasets.load("folder:set@16").facts.resolution == 16

    monkeypatch.setattr(decode, "_write", slower)
    monkeypatch.setattr(decode.os, "getpid", iter(range(1, 99)).__next__)
    assert datasets.load("folder:set@16").facts.resolution == 16 and datasets.load("folder:set@8").fingerprint == first
    assert not list((root / "decoded").glob("*.part"))


DECODE = "from mlp_lib import datasets; print(datasets.load('folder:set@8').fingerprint)"


def test_several_processes_at_a_time_make_one_copy(root):
    image_tree(root / "set", count=20)
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", DECODE]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(3)]
    said = {process.communicate()[0].splitlines()[-1] for process in started}
    assert said == {datasets.load("folder:set@8").fingerprint}
    assert len([p for p in (root / "decoded").iterdir() if p.is_dir()]) == 1


def test_what_is_hidden():
    assert all(map(folders.hidden, (".x", "._a.png", "Thumbs.db", "__MACOSX", ".ipynb_checkpoints", "Desktop.ini")))
    assert not any(map(folders.hidden, ("x", "thumbs.png", "a.b", "MACOSX")))
