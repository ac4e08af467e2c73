"""Image sets: published counts and hashes, splits, and a download that is interrupted in every way we know of."""

import hashlib
import http.server
import io
import os
import pickle
import subprocess
import sys
import tarfile
import threading

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import CIFAR10

from mlp_lib import datasets
from mlp_lib.errors import UserError

# --- what is embedded


@pytest.mark.parametrize(
    ("name", "fingerprint"),
    [
        ("digits", "c43baff464bb1555"),
        ("digits-32", "32ab0e0f11423cfb"),
        ("shapes", "9b300c60c595a231"),
        ("shapes-centred", "4f48e7cc132eb62f"),
        ("shapes-near", "b9042f317f28def1"),
        ("shapes-moved", "de676cd48f3ea0b7"),
    ],
)
def test_embedded_sets_are_what_facts_say(name, fingerprint, tmp_path):
    images = datasets.load(name, tmp_path)  # nothing under the root: nothing is needed
    facts = images.facts
    for pixels, labels, size in [
        (images.train_images, images.train_labels, facts.train_size),
        (images.test_images, images.test_labels, facts.test_size),
    ]:
        assert pixels.shape == (size, facts.channels, facts.resolution, facts.resolution) and pixels.dtype == np.uint8
        assert labels.shape == (size,) and labels.dtype == np.int64
        assert set(labels) == set(range(facts.num_classes))
    assert len(images.classes) == facts.num_classes
    scaled = images.train_images / 255.0
    assert np.abs(scaled.mean((0, 2, 3)) - facts.mean).max() < 5.1e-5
    assert np.abs(scaled.std((0, 2, 3)) - facts.std).max() < 5.1e-5
    # Golden: records name the data by this. It may change only with a new recipe version.
    assert images.fingerprint == fingerprint


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    raw, ours = load_digits(), datasets.load("digits")
    both = np.concatenate([ours.train_images, ours.test_images]).reshape(1797, 64)
    labelled = np.c_[np.rint(both * (16 / 255)), np.concatenate([ours.train_labels, ours.test_labels])]
    expected = np.c_[raw.data, raw.target]
    assert np.array_equal(labelled[np.lexsort(labelled.T)], expected[np.lexsort(expected.T)])
    share = np.bincount(ours.test_labels) - np.bincount(raw.target) * (360 / 1797)
    assert np.abs(share).max() <= 1


def test_large_digits_are_the_small_ones():
    small, large = datasets.load("digits"), datasets.load("digits-32")
    assert (large.train_labels == small.train_labels).all() and (large.test_labels == small.test_labels).all()
    for channel in range(3):
        corner = large.test_images[:, channel, 3::4, 2::4]  # one pixel of every square
        assert (corner == small.test_images[:, 0]).all()
    squares = large.train_images.reshape(-1, 3, 8, 4, 8, 4)
    assert (squares == squares[:, :, :, :1, :, :1]).all()


def test_import_is_cheap():
    code = "import sys, mlp_lib.datasets; print([m for m in ('torch', 'torchvision', 'sklearn') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_root_and_names(monkeypatch, tmp_path):
    monkeypatch.setenv("MLP_LIB_DATA", str(tmp_path))
    assert datasets.data_root() == tmp_path
    monkeypatch.delenv("MLP_LIB_DATA")
    assert datasets.data_root().name == "data" and (datasets.data_root().parent / "mlp_lib").is_dir()
    with pytest.raises(
        UserError, match="digits, digits-32, shapes, shapes-centred, shapes-near, shapes-moved, cifar10"
    ):
        datasets.load("imagenet")


# --- real CIFAR


@pytest.mark.cifar("cifar10", "cifar100")
@pytest.mark.parametrize(
    ("name", "first", "tolerance", "fingerprint"),
    [("cifar10", "frog", 4e-7, "a3be4ac5e033eea7"), ("cifar100", "cattle", 5.1e-5, "d7775b4c91b2eb54")],
)
def test_cifar_is_the_published_set(name, first, tolerance, fingerprint):
    images = datasets.load(name)
    assert images.fingerprint == fingerprint
    assert images.train_images.shape == (50_000, 3, 32, 32) and images.test_images.shape == (10_000, 3, 32, 32)
    assert (np.bincount(images.train_labels) == 50_000 // images.facts.num_classes).all()
    assert images.classes[images.train_labels[0]] == first
    # The statistics in FACTS, from integer sums so that the recomputation is exact.
    counts = np.stack([np.bincount(images.train_images[:, c].ravel(), minlength=256) for c in range(3)])
    values, total = np.arange(256) / 255, counts[0].sum()
    mean = counts @ values / total
    assert np.abs(mean - images.facts.mean).max() < tolerance
    assert np.abs(np.sqrt(counts @ values**2 / total - mean**2) - images.facts.std).max() < tolerance


# --- a CIFAR-10 of 24 images, and a server for it that misbehaves


def batch(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    return pickle.dumps({"data": rng.integers(0, 256, (4, 3072), np.uint8), "labels": [0, 1, 2, seed]})


def archive_of(files: dict[str, bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return raw.getvalue()


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves `content`; stops after `cut` bytes of the file if told so; `ranges` logs what was asked for."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.cut, self.resumes, self.ranges = b"", None, True, []


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.resumes else 0
        if start and start >= len(server.content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(server.content) - start))
        self.end_headers()
        self.wfile.write(server.content[start : server.cut])

    def log_message(self, *_):
        """Keep the test's output clean."""


@pytest.fixture
def server(monkeypatch):
    files = {f"data_batch_{i}": batch(i) for i in range(1, 6)} | {"test_batch": batch(6)}
    names = pickle.dumps({"label_names": list("abcdefghij")})
    server = Server()
    server.content = archive_of(
        {f"cifar-10-batches-py/{name}": body for name, body in files.items()}
        | {"cifar-10-batches-py/batches.meta": names}
    )
    monkeypatch.setattr(CIFAR10, "train_list", [[name, md5(body)] for name, body in files.items()][:5])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5(files["test_batch"])]])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": md5(names)})
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(server.content))
    monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{server.server_port}/cifar-10-python.tar.gz")
    monkeypatch.setenv("no_proxy", "*")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_fetch_then_load(server, tmp_path):
    root = tmp_path / "new" / "folder"
    assert datasets.fetch("cifar10", root) == root
    images = datasets.load("cifar10", root)
    assert images.train_images.shape == (20, 3, 32, 32) and images.classes == tuple("abcdefghij")
    assert np.array_equal(images.train_images[4:8].reshape(4, -1), pickle.loads(batch(2))["data"])
    assert images.test_labels.tolist() == [0, 1, 2, 6]
    assert datasets.load("cifar10", str(root)).fingerprint == images.fingerprint
    datasets.fetch("cifar10", root)  # all there: no second request
    assert server.ranges == [None]


def test_missing_incomplete_and_damaged_are_told_apart(server, tmp_path):
    with pytest.raises(UserError, match="CIFAR-10 is not under .* run: python -m mlp_lib fetch cifar10") as absent:
        datasets.load("cifar10", tmp_path)
    assert str(tmp_path) in str(absent.value) and "\n" not in str(absent.value)
    datasets.fetch("cifar10", tmp_path)
    folder = tmp_path / "cifar-10-batches-py"
    (folder / "data_batch_3").unlink()
    with pytest.raises(UserError, match=r"incomplete \(data_batch_3 is missing\)"):
        datasets.load("cifar10", tmp_path)
    # Damaged: a pickle that would run code if it were opened before it is checked.
    (folder / "data_batch_3").write_bytes(b"cos\nsystem\n(S'touch " + os.fsencode(tmp_path / "ran") + b"'\ntR.")
    with pytest.raises(UserError, match="data_batch_3 is damaged"):
        datasets.load("cifar10", tmp_path)
    assert not (tmp_path / "ran").exists()
    (folder / "batches.meta").write_bytes(b"")
    datasets.fetch("cifar10", tmp_path)  # mends all of it from the archive at hand
    assert len(server.ranges) == 1
    assert len(datasets.load("cifar10", tmp_path).train_labels) == 20


@pytest.mark.parametrize("resumes", [True, False])
def test_a_broken_connection_is_said_and_resumed(server, tmp_path, resumes):
    server.cut, server.resumes = 1000, resumes
    with pytest.raises(UserError, match="CIFAR-10: .*broke after 1000 of .*python -m mlp_lib fetch cifar10") as error:
        datasets.fetch("cifar10", tmp_path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "cifar-10-python.tar.gz").exists() and not (tmp_path / "cifar-10-batches-py").exists()
    server.cut = None
    datasets.fetch("cifar10", tmp_path)
    assert server.ranges == [None, "bytes=1000-"]
    assert len(datasets.load("cifar10", tmp_path).train_labels) == 20


@pytest.mark.parametrize("left", [b"not the beginning of it", b"x" * 200_000], ids=["other", "longer"])
def test_a_wrong_part_file_is_thrown_away(server, tmp_path, left):
    (tmp_path / "cifar-10-python.tar.gz.part").write_bytes(left)
    datasets.fetch("cifar10", tmp_path)
    assert server.ranges == [f"bytes={len(left)}-", None]
    assert not list(tmp_path.glob("*.part"))


def test_killed_between_the_last_byte_and_the_renaming(server, tmp_path):
    (tmp_path / "cifar-10-python.tar.gz.part").write_bytes(server.content)
    datasets.fetch("cifar10", tmp_path)
    assert server.ranges == []


def test_an_archive_that_is_not_the_published_one_is_never_opened(server, tmp_path):
    good, server.content = server.content, archive_of({"cifar-10-batches-py/data_batch_1": b"evil"})
    with pytest.raises(UserError, match="arrived damaged"):
        datasets.fetch("cifar10", tmp_path)
    assert list(tmp_path.iterdir()) == []
    server.content = good
    datasets.fetch("cifar10", tmp_path)


def test_a_truncated_archive_under_the_final_name_is_fetched_again(server, tmp_path):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(server.content[:500])
    datasets.fetch("cifar10", tmp_path)
    assert (tmp_path / "cifar-10-python.tar.gz").read_bytes() == server.content


def test_no_member_of_an_archive_chooses_where_it_lands(server, tmp_path, monkeypatch):
    server.content = archive_of(
        {
            "../escaped": b"x",
            "cifar-10-batches-py/../../escaped": b"x",
            str(tmp_path / "absolute"): b"x",
            "cifar-10-batches-py/extra": b"x",
        }
    )
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(server.content))
    root = tmp_path / "root"
    with pytest.raises(UserError, match="does not hold the published files"):
        datasets.fetch("cifar10", root)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["cifar-10-batches-py", "cifar-10-python.tar.gz", "root"]


def test_no_network_is_one_line(server, tmp_path, monkeypatch):
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    with pytest.raises(UserError, match="CIFAR-10: fetching .* failed .*try again: python -m mlp_lib fetch") as error:
        datasets.fetch("cifar10", tmp_path)
    assert "\n" not in str(error.value)


def test_a_root_that_cannot_be_a_folder_is_one_line(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot make the folder .*file: .*; choose another --root"):
        datasets.fetch("cifar10", tmp_path / "file")


def test_nothing_to_fetch(tmp_path, capsys):
    assert datasets.fetch("shapes", tmp_path) == tmp_path
    assert "nothing to fetch" in capsys.readouterr().out and list(tmp_path.iterdir()) == []


# --- splits

BALANCED = np.repeat(np.arange(10), 500)[np.random.default_rng(0).permutation(5000)]


@pytest.mark.parametrize("name", ["balanced", "digits", "shapes"])
def test_holdout_and_subsets(name):
    labels = BALANCED if name == "balanced" else datasets.load(name).train_labels
    share = np.bincount(labels) / len(labels)
    whole, val = datasets.split_indices(labels, "holdout", None, 10)
    assert len(val) == round(len(labels) / 10)
    assert np.array_equal(np.sort(np.concatenate([whole, val])), np.arange(len(labels)))
    previous: set[int] = set()
    for subset in (1, 7, 10, 55, 500, 1003, len(whole)):
        train, same = datasets.split_indices(labels, "holdout", subset, 10)
        assert np.array_equal(same, val) and train.dtype == val.dtype == np.int64
        assert len(train) == subset and (np.diff(train) > 0).all() and set(train) <= set(whole)
        assert previous <= set(train)
        previous = set(train)
        for part in (train, val):
            counts = np.bincount(labels[part], minlength=10)
            assert np.abs(counts - share * len(part)).max() <= 1
    assert np.array_equal(train, whole)


def test_every_subset_of_equal_classes_is_proportional():
    for subset in range(1, 101):
        train, val = datasets.split_indices(BALANCED, "all", subset, 10)
        counts = np.bincount(BALANCED[train], minlength=10)
        assert counts.sum() == subset and counts.max() - counts.min() <= 1 and len(val) == 0
    assert np.array_equal(datasets.split_indices(BALANCED, "all", None, 10)[0], np.arange(5000))


def test_splits_never_change():
    """Golden: every committed record was validated on this part and trained on these subsets."""
    train, val = datasets.split_indices(np.arange(50_000) % 10, "holdout", 5000, 10)
    assert hashlib.sha256(val.astype("<i8").tobytes()).hexdigest()[:16] == "026587ffbadfda03"
    assert hashlib.sha256(train.astype("<i8").tobytes()).hexdigest()[:16] == "b0ee7022aef2a0f7"
    assert datasets.pixel_permutation(3, 4, 0).tolist() == [5, 8, 3, 2, 15, 13, 9, 11, 7, 1, 12, 6, 0, 4, 14, 10]


@pytest.mark.parametrize(("split", "subset"), [("holdout", 0), ("holdout", 4501), ("all", 5001), ("half", None)])
def test_impossible_splits(split, subset):
    with pytest.raises(UserError):
        datasets.split_indices(BALANCED, split, subset, 10)


@pytest.mark.parametrize("name", ["digits", "shapes"])
@pytest.mark.parametrize(("split", "subset"), [("all", None), ("holdout", None), ("holdout", 100), ("all", 100)])
def test_train_count_is_the_length_of_the_split(name, split, subset):
    train, _ = datasets.split_indices(datasets.load(name).train_labels, split, subset, 10)
    assert datasets.train_count(name, split, subset) == len(train)


# --- pixels


@pytest.mark.parametrize("resolution", [16, 48, 64])
def test_resize_is_pillows(resolution):
    images = datasets.load("shapes").train_images[:1005]  # more than one chunk
    ours = datasets.resize(images, resolution)
    assert ours.shape == (1005, 3, resolution, resolution) and ours.dtype == np.uint8
    for i in (0, 500, 999, 1000, 1004):
        pillow = Image.fromarray(images[i].transpose(1, 2, 0)).resize((resolution, resolution), Image.BILINEAR)
        assert np.abs(ours[i].astype(int) - np.asarray(pillow).transpose(2, 0, 1)).max() <= 1


def test_resize_to_the_same_size_changes_nothing():
    images = datasets.load("digits").test_images
    assert datasets.resize(images, 8) is images
    assert datasets.resize(images, 16).shape == (360, 1, 16, 16)


def test_pixel_permutation():
    order = datasets.pixel_permutation(3, 32, 0)
    assert order.dtype == np.int64 and np.array_equal(np.sort(order), np.arange(1024))
    assert np.array_equal(order, datasets.pixel_permutation(3, 32, 0))
    assert not np.array_equal(order, datasets.pixel_permutation(3, 32, 1))
    assert (order == np.arange(1024)).sum() < 8
