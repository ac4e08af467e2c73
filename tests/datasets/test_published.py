"""Fashion-MNIST, STL-10 and TinyImageNet: tiny ones, over loopback or from files."""

import gzip
import hashlib
import io
import struct
import threading
import zipfile
from urllib.parse import quote

import numpy as np
import pytest
import torch
from helpers import encoded, forget, one_line, picture
from PIL import Image
from test_sets import Server, archive_of, md5
from torchvision.datasets import STL10, FashionMNIST

from mlp_lib import datasets
from mlp_lib.datasets import decode as decoded
from mlp_lib.datasets import published
from mlp_lib.errors import UserError
from mlp_lib.paths import REPOSITORY
from mlp_lib.records.run import make_run

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
    monkeypatch.setattr(published, "FASHION_CONTENT", {name: md5(body) for name, body in contents.items()})
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
        monkeypatch.setattr(published, "FASHION_LIMIT", 10**5)  # of what a hostile file may unpack to
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
        "train_X.bin": RNG.integers(0, 256, 4 * 3 * 96 * 96, np.uint8).tobytes(),
        "train_y.bin": bytes([1, 2, 10, 5]),
        "test_X.bin": RNG.integers(0, 256, 2 * 3 * 96 * 96, np.uint8).tobytes(),
        "test_y.bin": bytes([3, 1]),
    }
    monkeypatch.setattr(
        STL10,
        "train_list",
        [[n, md5(files[n])] for n in files if n.startswith("train")]
        + [["unlabeled_X.bin", "5242ba1fed5e4be9e1e742405eb56ca4"]],
    )
    monkeypatch.setattr(STL10, "test_list", [[n, md5(files[n])] for n in files if n.startswith("test")])
    server.content = archive_of(
        {f"stl10_binary/{n}": body for n, body in files.items()}
        | {"stl10_binary/unlabeled_X.bin": b"large", "../escaped": b"x"}
    )
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
        "test_X.bin",
        "test_y.bin",
        "train_X.bin",
        "train_y.bin",
    ]
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


@pytest.fixture
def tiny(server, monkeypatch):
    """A TinyImageNet of 2 classes with 11 training images each and 3 to validate, one of them grey."""
    top, files = "tiny-imagenet-200", {}
    for k, wnid in enumerate(("n02", "n01")):
        for i in range(11):
            grey = (k, i) == (1, 10)
            files[f"{top}/train/{wnid}/images/{wnid}_{i}.JPEG"] = encoded(
                picture(100 * k + i, mode="L" if grey else "RGB"), "JPEG"
            )
        files[f"{top}/train/{wnid}/{wnid}_boxes.txt"] = b""
    for i in range(3):
        files[f"{top}/val/images/val_{i}.JPEG"] = encoded(picture(300 + i), "JPEG")
    files[f"{top}/val/val_annotations.txt"] = b"".join(
        f"val_{i}.JPEG\t{('n01', 'n02', 'n01')[i]}\t0\t0\t9\t9\n".encode() for i in (2, 0, 1)
    )
    files[f"{top}/test/images/test_0.JPEG"] = b"not labelled, not read"
    files[f"{top}/wnids.txt"] = b"n02\nn01\n"
    files[f"{top}/words.txt"] = b"n01\tgoldfish, Carassius\nn02\ttench\nn03\tx"
    files["../escaped"] = b"x"
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    server.content, server.files = raw.getvalue(), files
    monkeypatch.setattr(
        published,
        "TINY",
        published.Zip(
            f"http://127.0.0.1:{server.server_port}/tiny-imagenet-200.zip", "tiny-imagenet-200.zip", md5(server.content)
        ),
    )
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
    text = (REPOSITORY / "data" / "README.md").read_text()
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


# --- of every set


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
