"""Every row of the page "What happens when ...": the input is made, and the line of the page is what is printed."""

import json
import os
import re
import shutil

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import safetensors.torch
import torch
from helpers import HOW, forget, image_tree, nobody, picture, stop_at
from PIL import Image

from mlp_lib import datasets, machine, models
from mlp_lib.book import build
from mlp_lib.chapters.notebook import notebook_values
from mlp_lib.datasets import decode
from mlp_lib.errors import UserError
from mlp_lib.paths import REPOSITORY
from mlp_lib.plots import use_style
from mlp_lib.records.run import make_run
from mlp_lib.records.store import Store, default_folder
from mlp_lib.sweeps.execute import execute
from mlp_lib.sweeps.workers import processes_for
from mlp_lib.training.loaders import load_data
from mlp_lib.training.loop import train

ROWS = re.findall(
    r"^\| (?!what you bring|---)(.+?) \| (read|said|refused) \| (.+) \|$",
    (REPOSITORY / "book" / "what-happens.md").read_text(encoding="utf-8"),
    re.M,
)
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"
OWN = dict(model="B-1/Wi-8", dataset="folder:set@8", split="all", batch_size=2, lr=1e-3)
CASES = {}


def case(what: str):
    def keep(function):
        CASES[what] = function
        return function

    return keep


@pytest.fixture
def box(open_root, monkeypatch):
    """A set of images of one's own, and a place for records."""
    image_tree(open_root / "set")
    monkeypatch.setenv("MLP_LIB_RUNS", str(open_root / "runs"))
    return open_root


@pytest.mark.parametrize(("what", "kind", "line"), ROWS, ids=[row[0] for row in ROWS])
def test_a_row_of_the_page(box, monkeypatch, capsys, what, kind, line):
    try:
        CASES[what](box, monkeypatch)
        error = None
    except UserError as refusal:
        error = str(refusal)
    said = capsys.readouterr().out
    assert (error is not None) == (kind == "refused"), error
    if kind == "read":
        assert line.startswith("nothing: ") and not re.sub(r".* images decoded\n", "", said)
        return
    expected = re.escape(line.strip("` ")).replace(re.escape("..."), ".+")
    printed = [error] if error else said.splitlines()
    assert any(re.fullmatch(expected, text) for text in printed), printed
    assert error is None or "\n" not in error


def test_every_row_is_a_case_and_every_case_a_row():
    assert sorted(row[0] for row in ROWS) == sorted(CASES)


def load(name: str = "folder:set@8") -> datasets.ImageSet:
    forget()
    return datasets.load(name)


# --- images of your own


@case("An image of 16-bit grey, with a palette, transparency, inks or an orientation tag")
def _(box, patch):
    levels = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(levels).save(box / "set" / "train" / "a" / "0.png")
    for name, mode in (("p.png", "P"), ("t.png", "RGBA"), ("inks.tif", "CMYK")):
        picture(1, (8, 8)).convert(mode).save(box / "set" / "train" / "b" / name)
    assert np.array_equal(load().train_images[0, 0], np.rint(levels / 257))


@case("An image of floats or 32-bit integers")
def _(box, patch):
    Image.new("F", (8, 8), 0.5).save(box / "set" / "train" / "a" / "x.tif")
    load()


@case("An animation, or a TIFF of several pages")
def _(box, patch):
    Image.new("L", (8, 8), 9).save(
        box / "set" / "train" / "a" / "x.tif", save_all=True, append_images=[Image.new("L", (8, 8), 99)]
    )
    assert load().train_images[2].max() == 9


@case("A damaged image")
def _(box, patch):
    path = box / "set" / "train" / "a" / "0.png"
    path.write_bytes(path.read_bytes()[:80])
    load()


@case("Files that are no images that Pillow reads")
def _(box, patch):
    (box / "set" / "train" / "a" / "notes.txt").write_text("x")
    (box / "set" / "test" / "b" / "raw.heic").write_text("x")
    load()


@case("A class without images in one part")
def _(box, patch):
    for path in (box / "set" / "test" / "b").iterdir():
        path.unlink()
    load()


@case("A class in test/ that train/ lacks")
def _(box, patch):
    image_tree(box / "set", classes=("c",), parts=("test",))
    load()


@case("Hidden files and folders, `__MACOSX`, `Thumbs.db`")
def _(box, patch):
    for name in (".DS_Store", "a/._0.png", "a/Thumbs.db"):
        (box / "set" / "train" / name).write_text("x")
    for name in ("__MACOSX", ".ipynb_checkpoints"):
        image_tree(box / "set" / "train" / name)
    assert load().classes == ("a", "b")


@case("Both test/ and val/")
def _(box, patch):
    image_tree(box / "set", parts=("val",))
    load()


@case("A link to nothing")
def _(box, patch):
    (box / "set" / "train" / "a" / "x.png").symlink_to(box / "gone.png")
    load()


@case("A link into a folder above")
def _(box, patch):
    (box / "set" / "train" / "a" / "up").symlink_to(box / "set" / "train" / "a")
    load()


@case("A folder without permission")
def _(box, patch):
    (box / "set" / "test" / "a").chmod(0)
    with nobody():
        load()


@case("An image without permission")
def _(box, patch):
    load("folder:set@4")  # so that what the reader needs is imported
    (box / "decoded").chmod(0o777)
    (box / "set" / "test" / "a" / "0.png").chmod(0)
    with nobody():
        load()


@case("A file whose name is no UTF-8")
def _(box, patch):
    with open(os.fsencode(box / "set" / "train" / "a") + b"/caf\xe9.png", "wb") as file:
        file.write(b"x")
    load()


@case("A newline in a set's name")
def _(box, patch):
    load("folder:a\nb")


@case("Images that change while they are decoded")
def _(box, patch):
    write = decode._write

    def meanwhile(*arguments):
        write(*arguments)
        picture(9, (8, 8)).save(box / "set" / "train" / "a" / "0.png")

    patch.setattr(decode, "_write", meanwhile)
    load()


@case("A damaged decoded copy")
def _(box, patch):
    load()
    (path,) = (box / "decoded").rglob("train-labels.npy")
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    load()


def npz(folder, labels, tested, count=4):
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for name, given in (("train", labels), ("test", tested)):
        images = rng.integers(0, 256, (len(given), 8, 8, 3), np.uint8)
        np.savez_compressed(folder / f"{name}.npz", images=images, labels=given)


@case("Labels that are not 0 to K-1")
def _(box, patch):
    npz(box / "set", [10010, 3, 3, 10010], [3, 10010])
    assert load("npz:set").train_labels.tolist() == [1, 0, 0, 1]


@case("Labels below 0")
def _(box, patch):
    npz(box / "set", [-1, 1, 0], [0, 1])
    load("npz:set")


@case("A label that only one part has")
def _(box, patch):
    npz(box / "set", [0, 1, 0], [0, 0])
    load("npz:set")


@case("A truncated .npz")
def _(box, patch):
    npz(box / "set", [0, 1, 0], [0, 1])
    (box / "set" / "train.npz").write_bytes((box / "set" / "train.npz").read_bytes()[:-40])
    load("npz:set")


@case("classes.json nested too deeply")
def _(box, patch):
    npz(box / "set", [0, 1, 0], [0, 1])
    (box / "set" / "classes.json").write_text("[" * 100_000)
    load("npz:set")


# --- records and weights


@case("Images of a recorded run that have moved, shrunk or half vanished")
def _(box, patch):
    run = make_run(**OWN, epochs=1)
    execute(run, Store(), HOW)
    shutil.rmtree(box / "set" / "test")
    forget()
    assert Store().frame()["total_steps"].tolist() == [2]


@case("Other images under the name of recorded ones")
def _(box, patch):
    execute(make_run(**OWN, epochs=1), Store(), HOW)
    picture(9, (8, 8)).save(box / "set" / "train" / "a" / "0.png")
    forget()
    execute(make_run(**OWN, epochs=2), Store(), HOW)


@case("Other images under a training that was stopped")
def _(box, patch):
    run = make_run(**OWN, epochs=3)
    assert train(run, box / "weights", HOW, should_stop=stop_at(2))[0].status == "paused"
    picture(9, (8, 8)).save(box / "set" / "train" / "a" / "0.png")
    forget()
    train(run, box / "weights", HOW)


def child_of(spoil):
    parent = make_run(model="B-1/Wi-8", dataset="digits", steps=2)
    path = Store().weights / f"{parent.key}.safetensors"
    path.parent.mkdir(parents=True)
    safetensors.torch.save_file(models.build_for(parent).state_dict(), path)
    spoil(path)
    execute(make_run(model="B-1/Wi-8", dataset="digits", steps=1, init=dict(run=parent)), Store(), HOW)


@case("A damaged checkpoint")
def _(box, patch):
    run = make_run(model="B-1/Wi-8", dataset="digits", steps=2)
    (box / f"{run.key}.checkpoint").write_bytes(b"")
    train(run, box, HOW)


@case("A parent's weights that are truncated or empty")
def _(box, patch):
    child_of(lambda path: path.write_bytes(path.read_bytes()[:-1]))


@case("A parent's weights of another model")
def _(box, patch):
    child_of(lambda path: safetensors.torch.save_file({"other": torch.zeros(2)}, path))


@case("A Git LFS pointer in the place of weights")
def _(box, patch):
    child_of(lambda path: path.write_text(POINTER))


def record_file(content: str) -> None:
    Store().folder.mkdir()
    (Store().folder / "x.json").write_text(content)


@case("A Git LFS pointer in the place of a record")
def _(box, patch):
    record_file(POINTER)
    Store().frame()


@case("A Git LFS pointer in the place of an .npz")
def _(box, patch):
    npz(box / "set", [0, 1], [0, 1])
    (box / "set" / "train.npz").write_text(POINTER)
    load("npz:set")


@case("A record without permission")
def _(box, patch):
    record_file("{}")
    (Store().folder / "x.json").chmod(0)
    with nobody():
        Store().frame()


@case("A record nested too deeply")
def _(box, patch):
    record_file(json.dumps({"key": "x"})[:-1] + ', "run": ' + "[" * 100_000)
    Store().frame()


# --- paths


@case("`~` in quotes, as in `--out='~/runs'`")
def _(box, patch):
    patch.setenv("HOME", str(box))
    assert Store("~/runs").folder == box / "runs"


@case("`~nosuchuser`")
def _(box, patch):
    Store("~nosuchuser/runs")


@case("`$HOME` in single quotes")
def _(box, patch):
    Store("$HOME/runs")


@case("An empty `--out`")
def _(box, patch):
    Store("")


@case("A relative MLP_LIB_RUNS or MLP_LIB_DATA")
def _(box, patch):
    patch.setenv("MLP_LIB_RUNS", "mine")
    patch.chdir(REPOSITORY / "notebooks")
    assert default_folder() == REPOSITORY / "mine"


@case("A folder of records that is a file")
def _(box, patch):
    (box / "runs").write_text("x")
    Store().frame()


@case("A book built into its own sources")
def _(box, patch):
    build.build(out=REPOSITORY / "book" / "_build")


# --- machine and settings


@case("`taskset`, a container's quota")
def _(box, patch):
    patch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    assert machine.usable_cores() == processes_for(9, True) == 1


@case("`--threads 100000`")
def _(box, patch):
    machine.check_count(100_000, "threads")


@case("`--pad 20000`")
def _(box, patch):
    make_run(model="B-1/Wi-8", dataset="digits", epochs=1, augment="pad", pad=20_000)


@case("A model larger than the memory")
def _(box, patch):
    models.build_for(make_run(model="B-6/Wi-131072", dataset="digits", epochs=1))


@case("Images larger than the memory")
def _(box, patch):
    patch.setattr(machine, "usable_memory", lambda: 10**8)
    load_data(make_run(model="B-1/Wi-8", dataset="digits", epochs=1, resolution=512, batch_size=2))


@case("A name that IPython's start-up files define")
def _(box, patch):
    cells = ["", "# Parameters\npreset = 'smoke'"]
    assert notebook_values({"In": cells, "pi": 3.14, "DATA_DIR": "x", "preset": "smoke"}) == {"preset": "smoke"}


@case("A matplotlibrc, with text.usetex say")
def _(box, patch):
    with matplotlib.rc_context({"text.usetex": True}):
        use_style()
        assert not plt.rcParams["text.usetex"]
