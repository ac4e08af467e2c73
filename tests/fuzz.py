"""Inputs made up at random, looking for a traceback: `make fuzz ARGS="--minutes 10 --seed 7"`.

A trial makes something that a user might bring, hands it to the library, and allows two ends: it works, or a UserError
of one printable line says why not. Every trial is a function of its number: what was found is found again by it.
"""

import argparse
import io
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from helpers import DIGITS, forget, picture, record_of
from PIL import Image

from mlp_lib import datasets, models
from mlp_lib.chapters.parameters import Parameters, validated
from mlp_lib.datasets import pixels
from mlp_lib.errors import UserError
from mlp_lib.paths import user_path
from mlp_lib.records.run import Run, make_run
from mlp_lib.records.store import Store
from mlp_lib.records.weights import weights_fault
from mlp_lib.training.checkpoints import read_checkpoint, read_weights

RUN = make_run(**DIGITS)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"
NAMES = [
    "a",
    "b.png",
    "é",
    "x y",
    ".hidden",
    "._b.png",
    "__MACOSX",
    "Thumbs.db",
    "a\nb",
    "~",
    "$X",
    "-",
    "c.PNG",
    "d.heic",
]
KINDS = ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "TGA", "JPEG2000"]
MODES = ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F", "I;16", "LAB", "PA", "HSV"]


def spoiled(draw: random.Random, content: bytes) -> bytes:
    """The content, whole or cut, with bytes changed, doubled, emptied, or another thing in its place."""
    content = bytearray(content)
    match draw.randrange(7):
        case 0:
            return bytes(content[: draw.randrange(len(content) + 1)])
        case 1 | 2 | 3:
            for _ in range(draw.randrange(1, 8)):
                content[draw.randrange(len(content))] = draw.randrange(256)
        case 4:
            content += content[: draw.randrange(len(content))]
        case 5:
            return draw.choice([b"", POINTER, b"{" * 50_000, b"[" * 50_000, b"\xff\xfe\0", draw.randbytes(99)])
    return bytes(content)


def image(draw: random.Random) -> bytes:
    """A small image file of any mode and format, as far as the format takes the mode."""
    mode, size = (
        draw.choice(MODES if draw.random() < 0.3 else ["L", "P", "RGB", "RGBA"]),
        (draw.randrange(1, 20), draw.randrange(1, 20)),
    )
    try:
        made = Image.new(mode, size, draw.randrange(0, 99)) if mode in ("I", "F", "I;16") else None
        made = made or picture(draw.randrange(99), size).convert(mode)
    except ValueError:  # Pillow does not convert to it
        made = Image.new(mode, size)
    raw, options = io.BytesIO(), {}
    if draw.random() < 0.3:
        exif = Image.Exif()
        exif[pixels.ORIENTATION] = draw.randrange(12)
        options["exif"] = exif
    if draw.random() < 0.3:
        options["transparency"] = draw.choice([0, 7, b"\0\x80", (1, 2, 3)])
    if draw.random() < 0.2:
        options |= {"save_all": True, "append_images": [made.copy()] * 2}
    try:
        made.save(raw, draw.choice(KINDS), **options)
    except Exception:  # the format does not take it
        raw = io.BytesIO()
        picture(1, size).save(raw, "PNG")
    return raw.getvalue()


def image_folders(draw: random.Random, folder: Path) -> None:
    """A tree of images, classes, clutter, links and damaged files."""
    odd = draw.random() < 0.5  # else all is in order but for what is in the files
    parts = ["train", "test"] if not odd else draw.sample(["train", "test", "val"], draw.choice([2, 2, 3, 1]))
    for part in parts:
        for name in ["a", "b", *draw.sample(NAMES, draw.randrange(2) if odd else 0)]:
            where = folder / "set" / part / name
            where.mkdir(parents=True, exist_ok=True)
            for index in range(draw.choice([1, 2, 2, 0]) if odd else 2):
                content = image(draw)
                ending = draw.choice(["png", "jpg", "webp", "tif", "gif", *(["heic", "txt"] if odd else [])])
                bad = draw.random() < 0.05
                (where / f"{index}.{ending}").write_bytes(spoiled(draw, content) if bad else content)
            if odd and draw.random() < 0.1:
                (where / draw.choice(NAMES)).symlink_to(draw.choice([where, where / "gone.png", folder / "set"]))
    if odd and draw.random() < 0.1:
        name = os.fsencode(folder) + draw.choice([b"/set/train/a/\xe9.png", b"/set/train/\xff"])
        with open(name, "wb") if os.path.isdir(os.path.dirname(name)) else io.BytesIO() as file:
            file.write(b"x")
    forget()
    images = datasets.load(f"folder:set@{draw.choice([4, 8])}", folder)
    assert len(set(images.train_labels.tolist())) == images.facts.num_classes == len(images.classes)
    assert images.train_images.dtype == np.uint8 and len(images.train_images) == images.facts.train_size


def npz(draw: random.Random, folder: Path) -> None:
    """Arrays of any type and shape, saved in any way, and then perhaps damaged."""
    (folder / "set").mkdir()
    chance = np.random.default_rng(draw.randrange(2**32))
    labels = [[0, 1, 2], [1, 2, 3], [3, 10010, 20017], [0, 2, 5], [0, 0, 0], [-1, 0, 1], [0, 1, 2**40]]
    labels = draw.choice([*labels, [2**53, 2**53 + 1]])
    odd = draw.random() < 0.5
    kinds = [np.uint8, np.int64, np.uint64, ">i4", np.int16]
    for name in ("train", draw.choice(["test", "val"])):
        count = draw.choice([3, 6, 6, 9])
        shape = draw.choice([(8, 8, 3), (8, 8), (8, 8, 1), (8, 6, 3), (8, 8, 4), (0, 0, 3)]) if odd else (8, 8, 3)
        arrays = {
            "images": chance.integers(0, 256, (count, *shape)).astype(draw.choice([np.uint8] * 9 + [np.float32])),
            "labels": np.resize(np.array(labels), count).astype(draw.choice(kinds)),
        }
        if odd and draw.random() < 0.1:
            arrays.pop(draw.choice(sorted(arrays)))
        path = folder / "set" / f"{name}.npz"
        draw.choice([np.savez, np.savez_compressed])(path, **arrays)
        if draw.random() < 0.3:
            path.write_bytes(spoiled(draw, path.read_bytes()))
    if odd and draw.random() < 0.5:
        names = draw.choice([["a", "b", "c"], {"1": "a"}, {"words": 3}, None, [1, 2, 3]])
        text = json.dumps(names).encode()
        (folder / "set" / "classes.json").write_bytes(spoiled(draw, text) if draw.random() < 0.5 else text)
    forget()
    images = datasets.load("npz:set", folder)
    for found in (images.train_labels, images.test_labels):
        assert set(found.tolist()) == set(range(images.facts.num_classes))


def weights(draw: random.Random, folder: Path) -> None:
    """Damaged weights: what is called whole can be read."""
    path = folder / "x.safetensors"
    safetensors.torch.save_file(models.build_for(RUN).state_dict(), path)
    path.write_bytes(spoiled(draw, path.read_bytes()))
    weights_fault(path)
    read_weights(path)


def checkpoints(draw: random.Random, folder: Path) -> None:
    """Damaged checkpoints, and whole files that are none."""
    path = folder / f"{RUN.key}.checkpoint"
    torch.save({"key": draw.choice([RUN.key, "other", 3]), "step": 1, "model": {"a": torch.zeros(9)}}, path)
    path.write_bytes(spoiled(draw, path.read_bytes()))
    read_checkpoint(RUN, folder, torch.device("cpu"))


def records(draw: random.Random, folder: Path) -> None:
    """Damaged records: a store is read, or the file is named."""
    text = record_of(RUN).to_json()
    if draw.random() < 0.5:
        content = json.loads(text)
        where = draw.choice([content, content["run"]])
        where[draw.choice(sorted(where))] = draw.choice([None, -1, "x", [], {}, 1e308, "folder:gone", 10**30])
        text = json.dumps(content)
    (folder / "x.json").write_bytes(spoiled(draw, text.encode()) if draw.random() < 0.7 else text.encode())
    if draw.random() < 0.2:
        draw.choice([os.mkfifo, os.mkdir, lambda path: os.symlink("gone", path)])(
            folder / draw.choice(["y.json", "._x.json"])
        )
    Store(folder).frame()


def fields(draw: random.Random, folder: Path) -> None:
    """Any value in any field of a run, and in any parameter of a chapter."""
    values = [None, 0, -1, 1, 10**9, 10**30, 0.5, "", "x", "B-2/Wi-8", "digits", "npz:a\nb", "folder:~", [], {}, True]
    values += [float("nan"), float("inf"), "é\udce9", "flip+crop", "9" * 5000]
    given = {name: draw.choice(values) for name in draw.sample(sorted(Run.model_fields), draw.randrange(1, 4))}
    if draw.random() < 0.5:
        validated(Parameters, {draw.choice(["preset", "train", "budget_minutes", "x"]): draw.choice(values)})
    plain = {"seed": draw.randrange(99), "batch_size": draw.randrange(1, 2000), "subset": draw.randrange(1, 1500)}
    make_run(**{**DIGITS, **(plain if draw.random() < 0.3 else given)})


def paths(draw: random.Random, folder: Path) -> None:
    """Any text as a path."""
    letters = ["~", "/", "a", ".", "..", "$X", " ", "\n", "é", "\udce9", "\0", "'", "=", "~root", "~nobody5"]
    path = user_path("".join(draw.choice(letters) for _ in range(draw.randrange(7))))
    assert path.is_absolute() and "\n" not in str(path) and str(path).encode()


TARGETS: dict[str, Callable[[random.Random, Path], None]] = {
    function.__name__: function for function in (image_folders, npz, weights, checkpoints, records, fields, paths)
}


def trial(target: str, number: int) -> str:
    """How one trial ended: "works", or "refused". Raises what the library should not have raised."""
    with tempfile.TemporaryDirectory() as name:
        try:
            TARGETS[target](random.Random(f"{target} {number}"), Path(name).resolve())
        except UserError as error:
            text = str(error)
            if "\n" in text or not text.strip() or len(text) > 12_000:  # a value of 5,000 letters is shown
                raise AssertionError(f"not one line: {text[:300]!r}") from error
            text.encode()
            return "refused"
    return "works"


def main() -> int:
    """Trials of all targets in turn until the time is over; the number of what was found ends the program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=None, help="of the first trial; by default another one each day")
    parser.add_argument("--target", choices=sorted(TARGETS), action="append")
    asked = parser.parse_args()
    number = 10_000 * (asked.seed if asked.seed is not None else int(time.time() // 86_400))
    print(f"trials from number {number} on, for {asked.minutes:g} minutes", flush=True)
    sys.stdout, out = io.StringIO(), sys.stdout  # what the library says is not wanted here
    ends: dict[str, int] = {}
    deadline = time.monotonic() + 60 * asked.minutes
    while time.monotonic() < deadline:
        for target in asked.target or TARGETS:
            try:
                end = trial(target, number)
            except Exception:
                print(f"found: trial({target!r}, {number})", file=out, flush=True)
                raise
            ends[f"{target} {end}"] = ends.get(f"{target} {end}", 0) + 1
        number += 1
    print("nothing found: " + ", ".join(f"{n:,} {end}" for end, n in sorted(ends.items())), file=out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
