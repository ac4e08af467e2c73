"""Every row of the page "What happens when ...": the input is made, and the line of the page is what is printed."""

import contextlib
import errno
import fcntl
import io
import json
import os
import re
import shutil
import signal
import sys
from unittest import mock

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import safetensors.torch
import torch
from helpers import HOW, forget, image_tree, nobody, picture, record_of, stop_at
from PIL import Image

from mlp_lib import cli, datasets, locks, machine, models, output
from mlp_lib.book import build
from mlp_lib.chapters.notebook import notebook_values
from mlp_lib.datasets import decode
from mlp_lib.errors import Busy, UserError
from mlp_lib.paths import REPOSITORY
from mlp_lib.plots import use_style
from mlp_lib.records.merge import merge
from mlp_lib.records.run import make_run
from mlp_lib.records.store import Store, default_folder
from mlp_lib.sweeps.ensure import ensure
from mlp_lib.sweeps.execute import execute
from mlp_lib.sweeps.workers import processes_for
from mlp_lib.training import loop
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


@case("An image with an ending of another format")
def _(box, patch):
    picture(1, (8, 8)).save(box / "x.bmp")
    os.rename(box / "x.bmp", box / "set" / "train" / "a" / "0.png")
    assert np.array_equal(load().train_images[0].transpose(1, 2, 0), np.asarray(picture(1, (8, 8))))


@case("A web page or text that is called x.jpg")
def _(box, patch):
    (box / "set" / "train" / "a" / "x.jpg").write_text("<html>404</html>")
    load()


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


@case("Images beside the folders of classes")
def _(box, patch):
    picture(1, (8, 8)).save(box / "set" / "train" / "x.png")
    picture(1, (8, 8)).save(box / "set" / "test" / "y.png")
    assert load().facts.train_size == 4


@case("Two names that look alike, é as one letter and as e with an accent")
def _(box, patch):
    image_tree(box / "set", classes=("\u00e9",), parts=("train",))
    image_tree(box / "set", classes=("e\u0301",), parts=("test",))
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


@case("A link to nothing, whatever its name")
def _(box, patch):
    for name in ("a/x.png", "a/notes.txt", "a/more", "c", "self"):
        path = box / "set" / "train" / name
        path.symlink_to(path if name == "self" else box / "gone")
        with pytest.raises(UserError, match=f"{path} cannot be read"):
            load()
        path.unlink()
    (box / "set" / "train" / "c").symlink_to(box / "gone")
    load()


@case("A test/ that is a link to nothing, beside val/")
def _(box, patch):
    os.rename(box / "set" / "test", box / "set" / "val")
    (box / "set" / "test").symlink_to(box / "gone")
    load()


@case("Folders in folders without end")
def _(box, patch):
    (box / "set" / "train" / "a" / "/".join("d" * 200)).mkdir(parents=True)
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


@case("Both test.npz and val.npz")
def _(box, patch):
    npz(box / "set", [1, 0], [0, 1])
    shutil.copy(box / "set" / "train.npz", box / "set" / "val.npz")
    load("npz:set")


@case("Labels beyond 2^53, of one type in train.npz and of another in test.npz")
def _(box, patch):
    labels = [2**53, 2**53 + 1]
    npz(box / "set", np.array(labels, np.uint64), np.array(labels, np.int64))
    assert load("npz:set").test_labels.tolist() == [0, 1]


@case("An .npz whose arrays have other names")
def _(box, patch):
    npz(box / "set", [0, 1], [0, 1])
    np.savez(box / "set" / "train.npz", np.zeros((2, 8, 8), np.uint8), np.arange(2))
    load("npz:set")


@case("An .npz that changes after its labels were read")
def _(box, patch):
    npz(box / "set", [0, 1, 2], [0, 1, 2])
    forget()
    datasets.facts("npz:set")
    npz(box / "set", [2, 1, 0], [0, 1, 2])
    datasets.load("npz:set")


@case("A name in classes.json with a newline")
def _(box, patch):
    npz(box / "set", [0, 1], [0, 1])
    (box / "set" / "classes.json").write_bytes(b'\xef\xbb\xbf["a\\nb", "c"]')  # with the mark of Windows
    load("npz:set")


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


@case("A checkpoint of another network or optimiser")
def _(box, patch):
    run = make_run(model="B-1/Wi-8", dataset="digits", steps=5)
    train(run, box, HOW, should_stop=stop_at(2))
    path = box / f"{run.key}.checkpoint"
    kept = torch.load(path, weights_only=True)
    for what, instead in (("optimizer", {}), ("rng", 3), ("model", {"other": torch.zeros(2)})):
        torch.save(kept | {what: instead}, path)
        with pytest.raises(UserError, match="does not fit the run"):
            train(run, box, HOW)
    torch.save(kept | {"step": 99}, path)
    with pytest.raises(UserError, match="is damaged .step 99."):
        train(run, box, HOW)
    torch.save(kept | {"model": {}}, path)
    train(run, box, HOW)


@case("A parent's weights of another precision")
def _(box, patch):
    def halve(path):
        state = safetensors.torch.load_file(path)
        safetensors.torch.save_file({name: tensor.half() for name, tensor in state.items()}, path)

    child_of(halve)


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


@case("A Mac's `._x.json` beside every record")
def _(box, patch):
    run = make_run(model="B-1/Wi-8", dataset="digits", steps=2)
    Store().add(record_of(run))
    (Store().folder / f"._{record_of(run).filename}").write_bytes(b"\0\5\x16\7")
    assert Store().has(run) and len(Store().frame()) == 1
    assert len(merge(Store().folder, Store(box / "home"))[0]) == 1


@case("A pipe, a socket or a link to nothing in the place of a record")
def _(box, patch):
    Store().folder.mkdir()
    (Store().folder / "x.json").symlink_to(box / "gone")
    with pytest.raises(UserError, match="a link to nothing"):
        Store().frame()
    (Store().folder / "x.json").unlink()
    os.mkfifo(Store().folder / "x.json")
    Store().frame()


@case("A folder of records in a folder without permission")
def _(box, patch):
    (box / "closed" / "runs").mkdir(parents=True)
    (box / "closed").chmod(0)
    with nobody():
        Store(box / "closed" / "runs").frame()


@case("A folder without permission below the one to merge")
def _(box, patch):
    Store(box / "from").add(record_of(make_run(model="B-1/Wi-8", dataset="digits", steps=2)))
    (box / "from" / "more").mkdir()
    (box / "from" / "more").chmod(0)
    with nobody():
        merge(box / "from", Store())


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
    for arguments in (["claims", "--out", ""], ["merge", ""], ["laws", "--csv", ""], ["bench", "--out", ""]):
        with pytest.raises(UserError, match=" is empty; name a folder or a file"):
            cli.app(arguments, standalone_mode=False)
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


@case("`--threads 100000`, or `How(threads=100000)` in Python")
def _(box, patch):
    run = make_run(model="B-1/Wi-8", dataset="digits", epochs=1)
    for field in ("threads", "accumulate", "together"):
        for count in (100_000, 0, 1.5, "2"):
            with pytest.raises(UserError, match=f"{field}=.*: take 1 to 1,024"):
                execute(run, Store(), HOW._replace(**{field: count}))
    with pytest.raises(UserError, match="workers=100000: take 1 to 1,024"):
        ensure([run], store=Store(), workers=100_000, progress=False)
    ensure([run], store=Store(), how=HOW._replace(threads=100_000), progress=False)


@case("`--pad 20000`")
def _(box, patch):
    make_run(model="B-1/Wi-8", dataset="digits", epochs=1, augment="pad", pad=20_000)


@case("A model of more blocks than can be built")
def _(box, patch):
    make_run(model="B-99999/Wi-64", dataset="digits", epochs=1)


@case("A value of thousands of letters")
def _(box, patch):
    make_run(model="B-1/Wi-8", dataset="digits", epochs=1, seed="9" * 50_000)


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


# --- signals, output and disks


def command_ends(*arguments) -> int:
    """The exit code of the command line's own `main`; what it writes to stderr stands on stdout."""
    with mock.patch("sys.argv", ["mlp_lib", *arguments]), contextlib.redirect_stderr(sys.stdout):
        with pytest.raises(SystemExit) as end:
            cli.main()
    return end.value.code


TRAIN = ("train", "--model", "B-1/Wi-8", "--dataset", "digits", "--threads", "1", "--precision", "fp32")


@case("Ctrl-C, SIGTERM, or SIGHUP by a closed terminal")
def _(box, patch):
    step = loop.Loop.take_step
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # where the tests run under nohup it is ignored, and would stay so
    for seed, (number, code) in enumerate({signal.SIGINT: 130, signal.SIGTERM: 75, signal.SIGHUP: 75}.items()):

        def signalled(self, batch, number=number):
            step(self, batch)
            if self.step == 3:
                os.kill(os.getpid(), number)

        patch.setattr(loop.Loop, "take_step", signalled)
        assert command_ends(*TRAIN, "--steps", "2000", "--seed", str(seed)) == code
    assert len(list(Store().weights.glob("*.checkpoint"))) == 3


class Broken(io.StringIO):
    """A stream to which nothing can be written."""

    def write(self, text):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


@case("A reader of the output that leaves, as `head` does, or closed stdout and stderr")
def _(box, patch):
    for steps, stream in enumerate((Broken(), None), 2):
        with mock.patch("sys.stdout", stream):
            ensure([make_run(model="B-1/Wi-8", dataset="digits", steps=steps)], store=Store(), how=HOW)
    assert len(list(Store())) == 2


@case("A full disk under the output")
def _(box, patch):
    lost = OSError(errno.ENOSPC, "No space left on device")
    patch.setattr(sys.modules["mlp_lib.cli.app"], "lost_output", lambda: lost)
    assert command_ends("merge", "/nosuch") == 2 and command_ends(*TRAIN, "--steps", "2") == 74


@case("A full disk under weights or a record")
def _(box, patch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    run = make_run(model="B-1/Wi-8", dataset="digits", steps=2)
    patch.setattr(os, "replace", full)
    with pytest.raises(UserError, match="cannot write record .*: No space left on device; free some space and run"):
        Store().add(record_of(run))
    execute(run, Store(), HOW)


@case("A file system without locks")
def _(box, patch):
    def flock(descriptor, how):
        raise OSError(errno.ENOSYS, "Function not implemented")

    load()  # leaves a lock's file, which must not count as held
    patch.setattr(fcntl, "flock", flock)
    patch.setattr(output, "_said", set())
    for path in (box / "decoded").iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    load()
    execute(make_run(model="B-1/Wi-8", dataset="digits", steps=2), Store(), HOW)


@case("A run that another process is training")
def _(box, patch):
    run = make_run(model="B-1/Wi-8", dataset="digits", steps=2)
    Store().weights.mkdir(parents=True)
    with locks.held(Store().weights / f"{run.key}.lock", Busy("busy")):
        execute(run, Store(), HOW)
