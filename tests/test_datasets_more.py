"""Fashion-MNIST, STL-10, TinyImageNet and sets of the reader's own: tiny ones, over loopback or from files."""

import gzip
import hashlib
import io
import json
import pickle
import struct
import threading
import zipfile
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import torch
from helpers import record_of
from PIL import Image
from test_datasets import Server, archive_of, md5
from torchvision.datasets import STL10, FashionMNIST

from mlp_lib import datasets, decoded, loaders, sources, train, user_sets
from mlp_lib.errors import UserError
from mlp_lib.records import Store
from mlp_lib.runs import make_run

RNG = np.random.default_rng(0)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def forget():
    """As a new process would start: nothing kept in memory."""
    datasets._load.cache_clear()
    user_sets._listing.cache_clear()
    user_sets._npz_parts.cache_clear()


def one_line(error) -> str:
    assert "\n" not in str(error.value) and len(str(error.value)) > 20
    return str(error.value)


# --- Fashion-MNIST: four files


@pytest.fixture
def fashion(monkeypatch, tmp_path):
    """A Fashion-MNIST of 6 + 3 images behind file: addresses; returns contents by name, and where they are served."""
    contents = {}
    for part, count in (("train", 6), ("t10k", 3)):
        images = RNG.integers(0, 256, (count, 28, 28), np.uint8)
        labels = np.arange(count, dtype=np.uint8)
        contents[f"{part}-images-idx3-ubyte"] = struct.pack(">4i", 2051, count, 28, 28) + images.tobytes()
        contents[f"{part}-labels-idx1-ubyte"] = struct.pack(">2i", 2049, count) + labels.tobytes()
    served = tmp_path / "served"
    served.mkdir()
    packed = {name: gzip.compress(content, mtime=1) for name, content in contents.items()}
    for name, content in packed.items():
        (served / f"{name}.gz").write_bytes(content)
    monkeypatch.setattr(FashionMNIST, "mirrors", [f"file://{quote(str(served))}/"])
    monkeypatch.setattr(FashionMNIST, "resources", [(f"{name}.gz", md5(body)) for name, body in packed.items()])
    monkeypatch.setattr(sources, "FASHION_CONTENT", {name: md5(body) for name, body in contents.items()})
    return contents, served


def test_fashion_mnist_fetched_and_read(fashion, tmp_path):
    contents, served = fashion
    root = tmp_path / "root"
    with pytest.raises(UserError, match="train-images-idx3-ubyte.gz is not under.*fetch fashion-mnist"):
        datasets.load("fashion-mnist", root)
    datasets.fetch("fashion-mnist", root)
    images = datasets.load("fashion-mnist", root)
    for path in (root / "FashionMNIST" / "raw").iterdir():  # for torchvision's own reader, which wants them unpacked
        other = tmp_path / "theirs" / "FashionMNIST" / "raw" / path.stem
        other.parent.mkdir(parents=True, exist_ok=True)
        other.write_bytes(gzip.decompress(path.read_bytes()))
    theirs = FashionMNIST(tmp_path / "theirs", train=True)
    raw = np.frombuffer(contents["train-images-idx3-ubyte"], np.uint8, offset=16).reshape(6, 1, 28, 28)
    assert np.array_equal(images.train_images, raw) and images.test_labels.tolist() == [0, 1, 2]
    assert np.array_equal(images.train_images[:, 0], theirs.data)
    assert np.array_equal(images.train_labels, theirs.targets)
    assert list(images.classes) == theirs.classes and images.train_images.dtype == np.uint8
    for path in served.iterdir():
        path.unlink()
    datasets.fetch("fashion-mnist", root)  # all there: nothing is asked for


def test_fashion_mnist_damaged_repacked_and_unpacked(fashion, tmp_path, monkeypatch):
    contents, _ = fashion
    root = tmp_path / "root"
    datasets.fetch("fashion-mnist", root)
    path = root / "FashionMNIST" / "raw" / "t10k-labels-idx1-ubyte.gz"
    good = path.read_bytes()
    for bad in (good[:-9], b"not gzip", gzip.compress(b"other"), gzip.compress(bytes(10**6))):
        path.write_bytes(bad)
        monkeypatch.setattr(sources, "FASHION_LIMIT", 10**5)  # of what a hostile file may unpack to
        with pytest.raises(UserError, match="t10k-labels-idx1-ubyte.gz is damaged") as error:
            datasets.load("fashion-mnist", root)
        one_line(error)
    datasets.fetch("fashion-mnist", root)
    assert path.read_bytes() == good
    path.write_bytes(gzip.compress(contents[path.stem], 1))  # Debian packs the same content anew
    other = path.with_name("t10k-images-idx3-ubyte.gz")
    other.with_suffix("").write_bytes(contents[other.stem])
    other.unlink()
    datasets.fetch("fashion-mnist", root)
    assert not other.exists()
    assert len(datasets.load("fashion-mnist", root).test_labels) == 3


def test_fashion_mnist_without_a_server_or_with_the_wrong_file(fashion, tmp_path):
    _, served = fashion
    (served / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"evil"))
    with pytest.raises(UserError, match="Fashion-MNIST: .*train-labels-idx1-ubyte.gz arrived damaged"):
        datasets.fetch("fashion-mnist", tmp_path / "root")
    (served / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UserError, match="Fashion-MNIST: fetching .* failed .*try again") as error:
        datasets.fetch("fashion-mnist", tmp_path / "root")
    one_line(error)


# --- STL-10


@pytest.fixture
def stl(server, monkeypatch):
    """An STL-10 of 4 + 2 images."""
    files = {
        "train_X.bin": RNG.integers(0, 256, 4 * 3 * 96 * 96, np.uint8).tobytes(), "train_y.bin": bytes([1, 2, 10, 5]),
        "test_X.bin": RNG.integers(0, 256, 2 * 3 * 96 * 96, np.uint8).tobytes(), "test_y.bin": bytes([3, 1]),
    }  # fmt: skip
    monkeypatch.setattr(STL10, "train_list", [[n, md5(files[n])] for n in files if n.startswith("train")]
                        + [["unlabeled_X.bin", "5242ba1fed5e4be9e1e742405eb56ca4"]])  # fmt: skip
    monkeypatch.setattr(STL10, "test_list", [[n, md5(files[n])] for n in files if n.startswith("test")])
    server.content = archive_of({f"stl10_binary/{n}": body for n, body in files.items()}
                                | {"stl10_binary/unlabeled_X.bin": b"large", "../escaped": b"x"})  # fmt: skip
    monkeypatch.setattr(STL10, "tgz_md5", md5(server.content))
    monkeypatch.setattr(STL10, "url", f"http://127.0.0.1:{server.server_port}/stl10_binary.tar.gz")
    return server


def test_stl10_without_the_unlabelled_images(stl, tmp_path, monkeypatch):
    root = tmp_path / "root"
    stl.cut = 5000
    with pytest.raises(UserError, match="STL-10: .*broke after 5000"):
        datasets.fetch("stl10", root)
    stl.cut = None
    datasets.fetch("stl10", root)
    datasets.fetch("stl10", root)
    assert stl.ranges == [None, "bytes=5000-"] and not (tmp_path / "escaped").exists()
    assert sorted(p.name for p in (root / "stl10_binary").iterdir()) == [
        "test_X.bin", "test_y.bin", "train_X.bin", "train_y.bin"]  # fmt: skip
    images = datasets.load("stl10", root)
    monkeypatch.setattr(STL10, "train_list", STL10.train_list[:2])  # torchvision's reader insists on the third
    theirs = STL10(root, split="train")
    assert np.array_equal(images.train_images, theirs.data) and np.array_equal(images.train_labels, theirs.labels)
    assert np.array_equal(images.test_images, STL10(root, split="test").data)
    assert images.train_labels.tolist() == [0, 1, 9, 4] and images.classes[9] == "truck"


def test_stl10_absent_incomplete_and_damaged(stl, tmp_path):
    with pytest.raises(UserError, match="STL-10 is not under .*fetch stl10"):
        datasets.load("stl10", tmp_path)
    datasets.fetch("stl10", tmp_path)
    (tmp_path / "stl10_binary" / "train_y.bin").unlink()
    with pytest.raises(UserError, match=r"incomplete \(train_y.bin is missing\)"):
        datasets.load("stl10", tmp_path)
    (tmp_path / "stl10_binary" / "train_y.bin").write_bytes(bytes(4))
    with pytest.raises(UserError, match="train_y.bin is damaged"):
        datasets.load("stl10", tmp_path)
    datasets.fetch("stl10", tmp_path)  # from the archive at hand
    assert len(stl.ranges) == 1 and len(datasets.load("stl10", tmp_path).train_labels) == 4


# --- TinyImageNet


def picture(seed: int, size=(64, 64), mode="RGB") -> Image.Image:
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8), mode)


def encoded(image: Image.Image, kind: str) -> bytes:
    raw = io.BytesIO()
    image.save(raw, kind)
    return raw.getvalue()


@pytest.fixture
def tiny(server, monkeypatch):
    """A TinyImageNet of 2 classes with 11 training images each and 3 to validate, one of them grey."""
    top, files = "tiny-imagenet-200", {}
    for k, wnid in enumerate(("n02", "n01")):
        for i in range(11):
            grey = (k, i) == (1, 10)
            files[f"{top}/train/{wnid}/images/{wnid}_{i}.JPEG"] = encoded(
                picture(100 * k + i, mode="L" if grey else "RGB"), "JPEG")  # fmt: skip
        files[f"{top}/train/{wnid}/{wnid}_boxes.txt"] = b""
    for i in range(3):
        files[f"{top}/val/images/val_{i}.JPEG"] = encoded(picture(300 + i), "JPEG")
    files[f"{top}/val/val_annotations.txt"] = b"".join(
        f"val_{i}.JPEG\t{('n01', 'n02', 'n01')[i]}\t0\t0\t9\t9\n".encode() for i in (2, 0, 1))  # fmt: skip
    files[f"{top}/test/images/test_0.JPEG"] = b"not labelled, not read"
    files[f"{top}/wnids.txt"] = b"n02\nn01\n"
    files[f"{top}/words.txt"] = b"n01\tgoldfish, Carassius\nn02\ttench\nn03\tx"
    files["../escaped"] = b"x"
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    server.content, server.files = raw.getvalue(), files
    monkeypatch.setattr(sources, "TINY", sources.Zip(
        f"http://127.0.0.1:{server.server_port}/tiny-imagenet-200.zip", "tiny-imagenet-200.zip", md5(server.content)))
    return server


def test_tinyimagenet_fetched_in_two_goes_and_decoded_once(tiny, tmp_path):
    root = tmp_path / "root"
    with pytest.raises(UserError, match="TinyImageNet is not under .*fetch tinyimagenet"):
        datasets.load("tinyimagenet", root)
    tiny.cut = 3000
    with pytest.raises(UserError, match="broke after 3000"):
        datasets.fetch("tinyimagenet", root)
    tiny.cut = None
    datasets.fetch("tinyimagenet", root)
    images = datasets.load("tinyimagenet", root)
    assert images.classes == ("goldfish", "tench")  # in the order of the WordNet ids, not of wnids.txt
    assert images.train_labels.tolist() == [0] * 11 + [1] * 11 and images.test_labels.tolist() == [0, 1, 0]
    for position, name in [(0, "n01_0"), (2, "n01_2"), (10, "n01_10"), (11, "n02_0"), (21, "n02_10")]:
        body = tiny.files[f"tiny-imagenet-200/train/{name[:3]}/images/{name}.JPEG"]
        with Image.open(io.BytesIO(body)) as image:
            expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
        assert np.array_equal(images.train_images[position], expected)
    assert isinstance(images.train_images, np.memmap)
    (root / "tiny-imagenet-200.zip").unlink()
    forget()
    datasets.fetch("tinyimagenet", root)  # decoded already: the archive is not needed
    assert datasets.load("tinyimagenet", root).fingerprint == images.fingerprint
    assert tiny.ranges == [None, "bytes=3000-"] and not (tmp_path / "escaped").exists()


def test_tinyimagenet_killed_while_it_is_decoded(tiny, tmp_path, monkeypatch):
    calls, decode = [], decoded._pixels

    def killed(*arguments):
        calls.append(arguments)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return decode(*arguments)

    monkeypatch.setattr(decoded, "_pixels", killed)
    with pytest.raises(KeyboardInterrupt):
        datasets.fetch("tinyimagenet", tmp_path)
    with pytest.raises(UserError, match="TinyImageNet is not under"):
        datasets.load("tinyimagenet", tmp_path)
    datasets.fetch("tinyimagenet", tmp_path)
    assert len(tiny.ranges) == 1 and len(datasets.load("tinyimagenet", tmp_path).train_labels) == 22


def test_tinyimagenet_from_another_archive_or_truncated_is_never_opened(tiny, tmp_path):
    good, tiny.content = tiny.content, b"PK other"
    with pytest.raises(UserError, match="arrived damaged"):
        datasets.fetch("tinyimagenet", tmp_path)
    assert list(tmp_path.iterdir()) == []
    tiny.content = good
    (tmp_path / "tiny-imagenet-200.zip").write_bytes(good[:1000])
    datasets.fetch("tinyimagenet", tmp_path)
    assert (tmp_path / "tiny-imagenet-200.zip").read_bytes() == good


def test_the_readmes_recipe_for_32_pixels(tiny, root):
    text = (Path(datasets.__file__).parents[1] / "data" / "README.md").read_text()
    recipe = text.split("```python\n")[1].split("```")[0]
    datasets.fetch("tinyimagenet")
    exec(recipe, {})
    (root / "tinyimagenet32").rename(root / "rebuilt")  # under the known name, 22 images would be refused
    small = datasets.load("npz:rebuilt")
    assert small.train_images.shape == (22, 3, 32, 32) and small.classes == ("goldfish", "tench")
    assert small.train_labels.tolist() == [0] * 11 + [1] * 11 and small.test_labels.tolist() == [0, 1, 0]
    full = datasets.load("tinyimagenet").train_images[3].transpose(1, 2, 0)
    expected = np.asarray(Image.fromarray(full).resize((32, 32), Image.Resampling.LANCZOS)).transpose(2, 0, 1)
    assert np.array_equal(small.train_images[3], expected)


@pytest.mark.parametrize("harm", ["flip", "truncate", "index"])
def test_decoded_images_that_were_changed_are_noticed(tiny, tmp_path, harm):
    datasets.fetch("tinyimagenet", tmp_path)
    folder = tmp_path / "decoded" / "tinyimagenet"
    path = folder / ("index.json" if harm == "index" else "train-images.npy")
    content = bytearray(path.read_bytes())
    content[-5] ^= 255
    path.write_bytes(content if harm == "flip" else content[:-100])
    with pytest.raises(UserError, match="damaged.*delete it and run again") as error:
        datasets.load("tinyimagenet", tmp_path)
    assert str(folder) in one_line(error)


# --- .npz of one's own


def write_npz(folder, train_images, train_labels, test_images, test_labels, test="test", save=np.savez):
    folder.mkdir(parents=True, exist_ok=True)
    save(folder / "train.npz", images=train_images, labels=train_labels)
    save(folder / f"{test}.npz", images=test_images, labels=test_labels)


def colours(count: int, side: int = 8, channels: int = 3) -> np.ndarray:
    return RNG.integers(0, 256, (count, side, side, channels), np.uint8)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MLP_LIB_DATA", str(tmp_path))
    forget()
    return tmp_path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("test", ["test", "val"])
def test_npz(root, save, test):
    images, more = colours(30), colours(12)
    write_npz(root / "mine", images, np.arange(30) % 3, more, np.arange(12, dtype=np.uint8) % 3, test, save)
    facts = datasets.facts("npz:mine")
    assert (facts.num_classes, facts.channels, facts.resolution, facts.train_size, facts.test_size) == (3, 3, 8, 30, 12)
    assert facts.mean == () and not facts.embedded
    loaded = datasets.load("npz:mine")
    assert np.array_equal(loaded.train_images, images.transpose(0, 3, 1, 2)) and loaded.train_labels.dtype == np.int64
    assert np.array_equal(loaded.test_images, more.transpose(0, 3, 1, 2)) and loaded.classes == ("0", "1", "2")
    assert np.abs(images.mean((0, 1, 2)) / 255 - loaded.facts.mean).max() < 5.1e-5
    assert np.abs(images.std((0, 1, 2)) / 255 - loaded.facts.std).max() < 5.1e-5
    assert datasets.train_count("npz:mine", "holdout", None) == 27


def test_npz_in_grey_and_with_class_names(root, capsys):
    write_npz(root / "deep" / "grey", colours(4, channels=1)[..., 0], [0, 1, 0, 1], colours(2, channels=1), [1, 0])
    (root / "deep" / "grey" / "classes.json").write_text(json.dumps({"words": ["a", "b"]}))
    loaded = datasets.load("npz:deep/grey")
    assert loaded.train_images.shape == (4, 1, 8, 8) and loaded.classes == ("a", "b")
    datasets.fetch("npz:deep/grey")
    assert "4 + 2 images are at hand" in capsys.readouterr().out
    (root / "deep" / "grey" / "classes.json").write_text('["a"]')
    forget()
    with pytest.raises(UserError, match="classes.json must be a list of 2 names"):
        datasets.load("npz:deep/grey")


class Harm:
    """Unpickling it would leave a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_npz_with_objects_is_not_unpickled(root):
    harm = np.empty(4, object)
    harm[:] = Harm(root / "ran")
    assert pickle.dumps(harm)
    for images, labels in [(harm, np.arange(4) % 2), (colours(4), harm)]:
        write_npz(root / "bad", images, labels, colours(2), [0, 1])
        for look in (datasets.facts, datasets.load, datasets.fetch):
            with pytest.raises(UserError, match="train.npz .*Python objects, which could run code") as error:
                look("npz:bad")
            one_line(error)
    assert not (root / "ran").exists()


def header_that_lies() -> bytes:
    """An .npz whose labels claim to be a terabyte."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        for name, dtype, shape in (("images", "|u1", (2**37, 2, 2, 3)), ("labels", "<i8", (2**37,))):
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return raw.getvalue()


@pytest.mark.parametrize(("harm", "message"), [
    (lambda p: p.write_bytes(p.read_bytes()[:-30]), "train.npz cannot be read"),
    (lambda p: p.write_bytes(b"nothing of the kind"), "train.npz cannot be read"),
    (lambda p: p.write_bytes(header_that_lies()), "another size than its header says"),
    (lambda p: p.unlink(), "train.npz is missing"),
    (lambda p: np.savez(p, images=colours(4)), "labels.npy"),
    (lambda p: np.savez(p, images=colours(4).astype(float), labels=[0, 1, 0, 1]), "images are float64.*not uint8"),
    (lambda p: np.savez(p, images=colours(4)[:, :6], labels=[0, 1, 0, 1]), "square"),
    (lambda p: np.savez(p, images=colours(4, channels=4), labels=[0, 1, 0, 1]), "not uint8"),
    (lambda p: np.savez(p, images=colours(4), labels=[0, 1, 0]), "labels are int64"),
    (lambda p: np.savez(p, images=colours(4), labels=[0, 1, 0, 0.5]), "labels are float64"),
    (lambda p: np.savez(p, images=colours(4), labels=[0, -1, 0, 1]), "below 0"),
    (lambda p: np.savez(p, images=colours(4), labels=[0, 0, 0, 0]), "label 1 does not occur in train.npz"),
    (lambda p: np.savez(p, images=colours(4, 9), labels=[0, 1, 0, 1]), "train.npz are .9, 9, 3"),
])  # fmt: skip
def test_npz_that_cannot_be_used_is_one_line(root, harm, message):
    write_npz(root / "mine", colours(4), [0, 1, 0, 1], colours(2), [0, 1])
    harm(root / "mine" / "train.npz")
    with pytest.raises(UserError, match=message) as error:
        datasets.facts("npz:mine")
    one_line(error)
    with pytest.raises(UserError, match=message):
        make_run(model="B-2/Wi-8", dataset="npz:mine", epochs=1, batch_size=2)


def test_npz_whose_pixels_were_changed_is_noticed(root):
    write_npz(root / "mine", colours(4), [0, 1, 0, 1], colours(2), [0, 1])
    content = bytearray((root / "mine" / "train.npz").read_bytes())
    content[400] ^= 255  # within the images
    (root / "mine" / "train.npz").write_bytes(content)
    with pytest.raises(UserError, match="train.npz cannot be read.*CRC"):
        datasets.load("npz:mine")


def test_a_name_that_the_project_knows_stands_for_its_own_images_only(root):
    assert datasets.facts("npz:tinyimagenet32").train_size == 100_000  # without the images: records need no more
    with pytest.raises(UserError, match="there is no folder .*tinyimagenet32"):
        datasets.load("npz:tinyimagenet32")
    write_npz(root / "tinyimagenet32", colours(4), [0, 1, 0, 1], colours(2), [0, 1])
    with pytest.raises(UserError, match=r"not the set that the project knows.*100,000 \+ 10,000.*rename"):
        datasets.load("npz:tinyimagenet32")


@pytest.mark.skipif(not (datasets.data_root() / "tinyimagenet32").is_dir(), reason="needs tinyimagenet32")
def test_the_projects_own_npz_is_what_facts_say():
    images = datasets.load("npz:tinyimagenet32")
    assert decoded.statistics(images.train_images) == (images.facts.mean, images.facts.std)
    assert (np.bincount(images.train_labels) == 500).all() and (np.bincount(images.test_labels) == 50).all()
    assert images.fingerprint == "5f389f48929b1def" and images.classes[0].startswith("goldfish")


# --- folders of one's own


@pytest.fixture
def flowers(root):
    """2 classes, images of several sizes and kinds, one in a subfolder."""
    folder = root / "flowers"
    kinds = {"train/rose/b.png": (64, 64), "train/rose/a.JPG": (80, 64), "train/rose/more/c.jpeg": (30, 90),
             "train/daisy/x.png": (64, 64), "train/daisy/y.png": (200, 100), "val/daisy/z.png": (64, 70)}  # fmt: skip
    for seed, (name, size) in enumerate(kinds.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture(seed, size), "PNG" if name.endswith("png") else "JPEG"))
    picture(9, mode="L").save(folder / "val" / "daisy" / "grey.png")
    (folder / "train" / "rose" / "notes.txt").write_text("not an image")
    return folder


def test_folder(flowers, root, capsys):
    facts = datasets.facts("folder:flowers")
    assert (facts.num_classes, facts.channels, facts.resolution, facts.train_size, facts.test_size) == (2, 3, 64, 5, 2)
    assert not (root / "decoded").exists()  # facts decode nothing
    images = datasets.load("folder:flowers")
    assert images.classes == ("daisy", "rose") and images.train_labels.tolist() == [0, 0, 1, 1, 1]
    assert images.test_labels.tolist() == [0, 0] and images.train_images.shape == (5, 3, 64, 64)
    of_its_size = np.asarray(Image.open(flowers / "train" / "rose" / "b.png")).transpose(2, 0, 1)
    assert np.array_equal(images.train_images[3], of_its_size)  # untouched
    wide = Image.open(flowers / "train" / "daisy" / "y.png")  # 200 x 100: the middle 100, by Lanczos
    expected = wide.resize((64, 64), Image.Resampling.LANCZOS, box=(50, 0, 150, 100))
    assert np.array_equal(images.train_images[1], np.asarray(expected).transpose(2, 0, 1))
    assert (images.test_images[0] == images.test_images[0, :1]).all()  # grey.png, as colour
    assert np.abs(images.train_images.mean((0, 2, 3)) / 255 - images.facts.mean).max() < 5.1e-5
    assert "of 7 images decoded" in capsys.readouterr().out


def test_a_folder_is_decoded_once_for_each_size_and_again_when_it_changes(flowers, root, capsys):
    first = datasets.load("folder:flowers@16")
    assert first.train_images.shape == (5, 3, 16, 16)
    capsys.readouterr()
    forget()
    assert datasets.load("folder:flowers@16").fingerprint == first.fingerprint
    assert capsys.readouterr().out == ""
    datasets.fetch("folder:flowers")
    assert sorted(p.name for p in (root / "decoded").iterdir()) == ["flowers@16", "flowers@64"]
    picture(77).save(flowers / "train" / "rose" / "b.png")
    forget()
    again = datasets.load("folder:flowers@16")
    assert again.fingerprint != first.fingerprint and "decoded" in capsys.readouterr().out
    (flowers / "train" / "rose" / "b.png").unlink()
    forget()
    assert datasets.load("folder:flowers@16").train_labels.tolist() == [0, 0, 1, 1]


def test_a_link_stands_for_a_folder_elsewhere(flowers, root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("other")
    flowers.rename(elsewhere / "photos")
    (root / "linked").symlink_to(elsewhere / "photos")
    assert datasets.facts("folder:linked").train_size == 5


def test_folders_that_cannot_be_used_are_one_line(flowers, root):
    good = (flowers / "train" / "daisy" / "x.png").read_bytes()
    for bad in (b"", b"not an image", good[:200], good[:60] + b"\0" * 40 + good[100:]):
        (flowers / "train" / "daisy" / "x.png").write_bytes(bad)
        forget()
        with pytest.raises(UserError, match="daisy/x.png cannot be decoded.*replace it") as error:
            datasets.load("folder:flowers")
        one_line(error)
    assert not (root / "decoded" / "flowers@64" / "index.json").exists()
    (flowers / "val" / "tulip").mkdir()
    forget()
    with pytest.raises(UserError, match="no class 'tulip'"):
        datasets.facts("folder:flowers")
    (flowers / "val" / "tulip").rmdir()
    (flowers / "train" / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no image"):
        datasets.facts("folder:flowers")
    (flowers / "val").rename(flowers / "valid")
    with pytest.raises(UserError, match="val is missing"):
        datasets.facts("folder:flowers")
    with pytest.raises(UserError, match="no folder .*nowhere.*a link"):
        datasets.facts("folder:nowhere")


def test_a_full_disk_is_one_line(flowers, root, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(UserError, match="No space left on device; free some space") as error:
        datasets.load("folder:flowers")
    one_line(error)


# --- names and records


@pytest.mark.parametrize("name", [
    "npz:", "npz:.", "npz:/abs", "npz:..", "npz:../out", "npz:a/../../out", "folder:@32", "folder:a@2",
    "folder:a@9999", "folder:C:\\x", "npz://x"])  # fmt: skip
def test_names_that_lead_out_of_the_root(name, root):
    for look in (datasets.facts, datasets.load, datasets.fetch, datasets.canonical_name):
        with pytest.raises(UserError):
            look(name)


def test_one_spelling_a_set(flowers, root):
    def key(name):
        return make_run(model="B-2/Wi-8", dataset=name, epochs=1, batch_size=2).key

    assert len({key(f"folder:{text}") for text in ("flowers", "./flowers/", "flowers@64", "x/../flowers")}) == 1
    assert key("folder:flowers@32") != key("folder:flowers")
    assert datasets.load("folder:flowers/") is datasets.load("folder:flowers@64")


def test_a_run_on_a_set_of_ones_own_from_images_to_a_record_without_them(flowers, root, monkeypatch):
    run = make_run(model="B-1/Wi-8", dataset="folder:flowers@8", split="all", batch_size=2, epochs=2, resolution=6)
    data = loaders.load_data(run)
    assert data.train.images.shape == (5, 3, 6, 6) and data.mean.shape == (3, 1, 1)
    outcome, _ = train.train(run, root / "weights", train.How("cpu", "fp32"))
    assert outcome.status == "ok" and outcome.fingerprint == datasets.load("folder:flowers@8").fingerprint
    child = make_run(model="B-1/Wi-8", dataset="digits", epochs=1, init=dict(run=run, transform="new_head", epoch=1))
    store = Store(root / "records")
    store.add(record_of(run))
    store.add(record_of(child))
    monkeypatch.setenv("MLP_LIB_DATA", str(root / "elsewhere"))
    forget()
    with pytest.raises(UserError, match="no folder"):
        make_run(model="B-1/Wi-8", dataset="folder:flowers@8", batch_size=2, epochs=2)
    frame = Store(root / "records").frame().set_index("key")
    assert set(frame.index) == {run.key, child.key}
    assert frame.loc[run.key, "total_steps"] == 4 and frame.loc[run.key, "dataset"] == "folder:flowers@8"


def test_patches_and_fashion_mnists_28_pixels():
    with pytest.raises(UserError, match="patches of 8 pixels do not tile an image of 28; set resolution=32"):
        make_run(model="ViT-64x4/8", dataset="fashion-mnist", epochs=1)
    assert make_run(model="ViT-64x4/7", dataset="fashion-mnist", epochs=1).train_examples == 54_000


def test_statistics_by_numpy_and_without_contrast():
    images = RNG.integers(0, 256, (2500, 3, 4, 4), np.uint8)  # more than one chunk
    mean, std = decoded.statistics(images)
    assert np.allclose(mean, images.mean((0, 2, 3)) / 255, atol=5.1e-5)
    assert np.allclose(std, images.std((0, 2, 3)) / 255, atol=5.1e-5)
    images[:, 1] = 7
    with pytest.raises(UserError, match="channel 1 .*the same everywhere"):
        decoded.statistics(images)


def test_the_fingerprint_is_sha256_over_the_arrays():
    digits = datasets.load("digits")
    arrays = [digits.train_images, digits.train_labels, digits.test_images, digits.test_labels]
    content = b"".join(f"{a.dtype.name} {a.shape}".encode() + a.tobytes() for a in arrays)
    assert decoded.fingerprint(arrays) == digits.fingerprint == hashlib.sha256(content).hexdigest()[:16]
    assert torch.from_numpy(digits.train_images).dtype == torch.uint8
