"""Sets of the reader's own, as .npz files or as folders of images: read, decoded, refused, and in a run's record."""

import io
import json
import pickle
import zipfile

import numpy as np
import pytest
from helpers import encoded, forget, one_line, picture, record_of
from PIL import Image

from mlp_lib import datasets
from mlp_lib.datasets import decode
from mlp_lib.errors import UserError
from mlp_lib.records.run import make_run
from mlp_lib.records.store import Store
from mlp_lib.training import loaders, loop
from mlp_lib.training.how import How

RNG = np.random.default_rng(0)


# --- .npz of one's own


def write_npz(folder, train_images, train_labels, test_images, test_labels, test="test", save=np.savez):
    folder.mkdir(parents=True, exist_ok=True)
    save(folder / "train.npz", images=train_images, labels=train_labels)
    save(folder / f"{test}.npz", images=test_images, labels=test_labels)


def colours(count: int, side: int = 8, channels: int = 3) -> np.ndarray:
    return RNG.integers(0, 256, (count, side, side, channels), np.uint8)


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


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:-30]), "train.npz cannot be read"),
        (lambda p: p.write_bytes(b"nothing of the kind"), "train.npz cannot be read"),
        (lambda p: p.write_bytes(header_that_lies()), "another size than its header says"),
        (lambda p: p.unlink(), "train.npz is missing"),
        (lambda p: np.savez(p, images=colours(4)), "there is no array `labels` in it, only: images"),
        (lambda p: np.savez(p, images=colours(4).astype(float), labels=[0, 1, 0, 1]), "images are float64.*not uint8"),
        (lambda p: np.savez(p, images=colours(4)[:, :6], labels=[0, 1, 0, 1]), "square"),
        (lambda p: np.savez(p, images=colours(4, channels=4), labels=[0, 1, 0, 1]), "not uint8"),
        (lambda p: np.savez(p, images=colours(4), labels=[0, 1, 0]), "labels are int64"),
        (lambda p: np.savez(p, images=colours(4), labels=[0, 1, 0, 0.5]), "labels are float64"),
        (lambda p: np.savez(p, images=colours(4), labels=[0, -1, 0, 1]), "below 0"),
        (lambda p: np.savez(p, images=colours(4), labels=[0, 0, 0, 0]), "label 1 does not occur in train.npz"),
        (lambda p: np.savez(p, images=colours(4, 9), labels=[0, 1, 0, 1]), "train.npz are .9, 9, 3"),
    ],
)
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
    assert decode.statistics(images.train_images) == (images.facts.mean, images.facts.std)
    assert (np.bincount(images.train_labels) == 500).all() and (np.bincount(images.test_labels) == 50).all()
    assert images.fingerprint == "5f389f48929b1def" and images.classes[0].startswith("goldfish")


# --- folders of one's own


@pytest.fixture
def flowers(root):
    """2 classes, images of several sizes and kinds, one in a subfolder."""
    folder = root / "flowers"
    kinds = {
        "train/rose/b.png": (64, 64),
        "train/rose/a.JPG": (80, 64),
        "train/rose/more/c.jpeg": (30, 90),
        "train/daisy/x.png": (64, 64),
        "train/daisy/y.png": (200, 100),
        "val/daisy/z.png": (64, 70),
    }
    for seed, (name, size) in enumerate(kinds.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture(seed, size), "PNG" if name.endswith("png") else "JPEG"))
    picture(9, mode="L").save(folder / "val" / "daisy" / "grey.png")
    (folder / "val" / "rose").mkdir()
    picture(10).save(folder / "val" / "rose" / "w.png")
    (folder / "train" / "rose" / "notes.txt").write_text("not an image")
    return folder


def test_folder(flowers, root, capsys):
    facts = datasets.facts("folder:flowers")
    assert (facts.num_classes, facts.channels, facts.resolution, facts.train_size, facts.test_size) == (2, 3, 64, 5, 3)
    assert not (root / "decoded").exists()  # facts decode nothing
    images = datasets.load("folder:flowers")
    assert images.classes == ("daisy", "rose") and images.train_labels.tolist() == [0, 0, 1, 1, 1]
    assert images.test_labels.tolist() == [0, 0, 1] and images.train_images.shape == (5, 3, 64, 64)
    of_its_size = np.asarray(Image.open(flowers / "train" / "rose" / "b.png")).transpose(2, 0, 1)
    assert np.array_equal(images.train_images[3], of_its_size)  # untouched
    wide = Image.open(flowers / "train" / "daisy" / "y.png")  # 200 x 100: the middle 100, by Lanczos
    expected = wide.resize((64, 64), Image.Resampling.LANCZOS, box=(50, 0, 150, 100))
    assert np.array_equal(images.train_images[1], np.asarray(expected).transpose(2, 0, 1))
    assert (images.test_images[0] == images.test_images[0, :1]).all()  # grey.png, as colour
    assert np.abs(images.train_images.mean((0, 2, 3)) / 255 - images.facts.mean).max() < 5.1e-5
    assert "of 8 images decoded" in capsys.readouterr().out


def test_a_folder_is_decoded_once_for_each_size_and_again_when_it_changes(flowers, root, capsys):
    first = datasets.load("folder:flowers@16")
    assert first.train_images.shape == (5, 3, 16, 16)
    capsys.readouterr()
    forget()
    assert datasets.load("folder:flowers@16").fingerprint == first.fingerprint
    said = capsys.readouterr().out
    assert (
        "decoded" not in said and "1 file is no image that can be read, and is left out: train/rose/notes.txt" in said
    )
    datasets.fetch("folder:flowers")
    assert sorted(p.name.split("-")[0] for p in (root / "decoded").iterdir() if p.is_dir()) == [
        "flowers@16",
        "flowers@64",
    ]
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
    assert not list((root / "decoded").rglob("index.json")) and not list((root / "decoded").glob("*.part"))
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


@pytest.mark.parametrize(
    "name",
    [
        "npz:",
        "npz:.",
        "npz:/abs",
        "npz:..",
        "npz:../out",
        "npz:a/../../out",
        "folder:@32",
        "folder:a@2",
        "folder:a@9999",
        "folder:C:\\x",
        "npz://x",
    ],
)
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
    outcome, _ = loop.train(run, root / "weights", How("cpu", "fp32"))
    assert outcome.status == "ok" and outcome.fingerprint == datasets.load("folder:flowers@8").fingerprint
    child = make_run(model="B-1/Wi-8", dataset="shapes", epochs=1, init=dict(run=run, transform="new_head", epoch=1))
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


# --- labels


@pytest.mark.parametrize(
    "labels",
    [(1, 2, 3), (3, 10010, 20017), (0, 2), (5, 2**62), (2**31, 2**40, 2**63 - 1)],
)
@pytest.mark.parametrize("kind", [np.int64, np.uint64, ">i8"])
def test_labels_are_mapped_and_the_map_is_kept(root, capsys, labels, kind):
    given = np.array(labels * 4, kind)
    write_npz(root / "mine", colours(len(given)), given, colours(len(labels)), np.array(labels[::-1], kind))
    assert datasets.facts("npz:mine").num_classes == len(labels)
    images = datasets.load("npz:mine")
    assert images.train_labels.tolist() == [*range(len(labels))] * 4 and images.train_labels.dtype == np.int64
    assert images.test_labels.tolist() == [*range(len(labels))][::-1]
    assert images.labels_in_files == labels and images.classes == tuple(map(str, labels))
    said = f"labels {', '.join(map(str, labels))} of the files are the classes 0 to {len(labels) - 1}, in this order"
    assert said in capsys.readouterr().out


def test_labels_from_0_are_kept_as_they_are(root, capsys):
    write_npz(root / "mine", colours(6), [2, 0, 1, 1, 0, 2], colours(3), [1, 2, 0])
    images = datasets.load("npz:mine")
    assert images.train_labels.tolist() == [2, 0, 1, 1, 0, 2] and images.labels_in_files == ()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ([1, 2, 1, 2], [1, 1], "test.npz: no image has label 2, which train.npz has"),
        ([1, 2, 1, 2], [1, 3], "test.npz: label 3 does not occur in train.npz"),
        ([7, 7, 7, 7], [7, 7], "train.npz: all labels are 7"),
        ([5, 6, 10**6, 10**9], [5, 6], "no image has label 1000000 .*4 classes in train.npz, 2 here"),
    ],
)
def test_labels_that_leave_a_class_empty_are_refused(root, train, test, message):
    write_npz(root / "mine", colours(4), train, colours(2), test)
    with pytest.raises(UserError, match=message.replace(" .*4", ".*4")) as error:
        datasets.facts("npz:mine")
    one_line(error)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "b"], ("a", "b")),
        (["-", "x", "-", "y"], ("x", "y")),
        ({"3": "y", "1": "x", "9": "unused"}, ("x", "y")),
        ({"words": ["a", "b"]}, ("a", "b")),
    ],
)
def test_names_of_mapped_classes(root, names, expected):
    write_npz(root / "mine", colours(4), [1, 3, 1, 3], colours(2), [3, 1])
    (root / "mine" / "classes.json").write_text(json.dumps(names))
    assert datasets.load("npz:mine").classes == expected


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[" * 50_000, b"\xff\xfe", b"[1, 2]", b'["a"]', b'{"1": "a"}', b"3", b"null"]
)
def test_class_names_that_cannot_be_used_are_one_line(root, content):
    write_npz(root / "mine", colours(4), [1, 3, 1, 3], colours(2), [3, 1])
    (root / "mine" / "classes.json").write_bytes(content)
    with pytest.raises(UserError, match="classes.json (cannot be read as JSON|must be a list of 2 names)") as error:
        datasets.load("npz:mine")
    one_line(error)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_compression_of_any_kind_is_one_line(root, method):
    write_npz(root / "mine", colours(40) // 64, np.arange(40) % 2, colours(2), [0, 1])
    whole = root / "mine" / "train.npz"
    with zipfile.ZipFile(whole) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(whole, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    good = whole.read_bytes()
    datasets.load("npz:mine")
    rng = np.random.default_rng(method)
    for _ in range(40):
        content = bytearray(good)
        for at in rng.integers(0, len(content), 3):
            content[at] ^= int(rng.integers(1, 256))
        whole.write_bytes(content)
        forget()
        try:
            datasets.load("npz:mine")
        except UserError as error:
            assert "\n" not in str(error)


def test_other_things_in_the_place_of_npz_are_named(root):
    write_npz(root / "mine", colours(4), [0, 1, 0, 1], colours(2), [0, 1])
    path = root / "mine" / "train.npz"
    for content, message in (
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "it is a Git LFS pointer"),
        (b"", "it is empty"),
    ):
        path.write_bytes(content)
        forget()
        with pytest.raises(UserError, match=message):
            datasets.facts("npz:mine")
    path.unlink()
    path.mkdir()
    forget()
    with pytest.raises(UserError, match="train.npz is a folder; it needs"):
        datasets.facts("npz:mine")


def test_images_beyond_the_memory_are_refused_before_they_are_read(root, monkeypatch):
    from mlp_lib import machine

    write_npz(root / "mine", colours(40), np.arange(40) % 2, colours(2), [0, 1])
    monkeypatch.setattr(machine, "usable_memory", lambda: 4000)
    with pytest.raises(UserError, match="train.npz: 0.0 GB, but this machine lets it have 0.0 GB; take a smaller set"):
        datasets.load("npz:mine")


@pytest.mark.parametrize("name", ["npz:a\nb", "folder:a\tb", "npz:caf\udce9", "folder:a@" + "9" * 5000])
def test_names_that_no_line_holds_are_one_line(root, name):
    with pytest.raises(UserError) as error:
        datasets.facts(name)
    one_line(error).encode()
