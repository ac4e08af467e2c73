"""The row of Table 2, by weights whose answers are known, and by the command line."""

import json
import sys

import numpy as np
import pytest
import torch
from helpers import image_tree

from mlp_lib import cli, datasets
from mlp_lib.chapters.claims import MARKS, paper_table
from mlp_lib.cli import evaluate
from mlp_lib.cli.evaluate import papers_numbers
from mlp_lib.errors import UserError
from mlp_lib.measures.table2_row import PUBLIC_STATISTICS, load_test_part, public_statistics, row
from mlp_lib.measures.test_crops import Views, predictions
from mlp_lib.models import build

MODEL = "B-1/Wi-16"


def weights(tmp_path, dataset="digits", resolution=8, **options):
    facts = datasets.facts(dataset)
    torch.manual_seed(0)
    network = build(MODEL, facts.num_classes, resolution, channels=facts.channels)
    torch.save({"model": {f"module.{k}": v.half() for k, v in network.state_dict().items()}}, tmp_path / "weights")
    network.load_state_dict({k: v.half().float() for k, v in network.state_dict().items()})
    return network.eval(), tmp_path / "weights"


@pytest.fixture
def command(monkeypatch, capsys):
    def run(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mlp_lib", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        out, err = capsys.readouterr()
        return stopped.value.code or 0, out, err

    return run


def test_the_row_is_the_networks_accuracy(tmp_path):
    network, path = weights(tmp_path)
    found = row(path, MODEL, "digits", 8, views=3)
    images = datasets.load("digits")
    x = (torch.from_numpy(images.test_images).float() / 255 - images.facts.mean[0]) / images.facts.std[0]
    with torch.no_grad():
        ranked = network(x).argsort(1, descending=True).numpy()
    right = ranked == images.test_labels[:, None]
    assert found["top1"] == pytest.approx(100 * right[:, 0].mean(), abs=0.3)
    assert found["top5"] == pytest.approx(100 * right[:, :5].any(1).mean(), abs=0.3)
    assert found["parameters"] == sum(p.numel() for p in network.parameters()) and found["images"] == 360
    data = load_test_part("digits", 8)
    votes = predictions(network, data, data.test, Views(0.4, 1.0, flip=False), (3,))  # grey: not flipped
    assert found["top1_views"] == pytest.approx(100 * (votes.logits[3][:, 0] == data.test.labels).float().mean().item())
    assert found["real"] is None and found["views"] == 3


def test_images_are_resized_to_the_resolution_of_the_weights(tmp_path):
    _, path = weights(tmp_path, resolution=16)
    assert row(path, MODEL, "digits", 16)["top1_views"] is None
    assert load_test_part("digits", 16).test.images.shape == (360, 1, 16, 16)
    with pytest.raises(UserError, match="of images of 16 pixels: --resolution 16"):
        row(path, MODEL, "digits", 64)


def test_normalisation_is_the_public_codes(tmp_path, monkeypatch):
    assert public_statistics("cifar100") == PUBLIC_STATISTICS["cifar100"] == public_statistics("cifar10")
    assert public_statistics("cifar100")[0] == (0.49139968, 0.48215827, 0.44653124)
    assert public_statistics("stl10")[1] == (0.2471, 0.2435, 0.2616)
    assert public_statistics("tinyimagenet") == public_statistics("folder:imagenet") == datasets.catalogue.IMAGENET
    assert public_statistics("digits") == (datasets.facts("digits").mean, datasets.facts("digits").std)


def imagenet_like(tmp_path, monkeypatch):
    """Twelve validation images of two classes, with ImageNet's names, whose numbers are in no order."""
    monkeypatch.setenv("MLP_LIB_DATA", str(tmp_path))
    folder = image_tree(tmp_path / "imagenet", parts=("train", "val"), count=6)
    numbers = np.random.default_rng(0).permutation(12) + 1
    for number, path in zip(numbers, sorted((folder / "val").rglob("*.png")), strict=True):
        path.rename(path.with_name(f"ILSVRC2012_val_{number:08d}.png"))
    return folder


def test_real_labels_go_by_the_number_in_the_name(tmp_path, monkeypatch):
    folder = imagenet_like(tmp_path, monkeypatch)
    network, path = weights(tmp_path, "folder:imagenet@8")
    labels: list[list[int]] = [[] for _ in range(12)]
    for image in folder.glob("val/*/*.png"):
        number = int(image.stem[-8:])
        labels[number - 1] = [["a", "b"].index(image.parent.name)]
    (tmp_path / "real.json").write_text(json.dumps(labels))
    found = row(path, MODEL, "folder:imagenet@8", 8, views=2, real_labels=tmp_path / "real.json")
    assert found["real"] == pytest.approx(found["top1"]) and found["real_views"] == pytest.approx(found["top1_views"])
    (tmp_path / "real.json").write_text(json.dumps([[0, 1]] * 11 + [[]]))
    assert row(path, MODEL, "folder:imagenet@8", 8, real_labels=tmp_path / "real.json")["real"] == 100
    (tmp_path / "real.json").write_text(json.dumps([[0]] * 5))
    with pytest.raises(UserError, match="the labels of 5 images, and there is one of number 12"):
        row(path, MODEL, "folder:imagenet@8", 8, real_labels=tmp_path / "real.json")


def test_folders_without_imagenets_numbers_have_no_real_labels(tmp_path, monkeypatch):
    monkeypatch.setenv("MLP_LIB_DATA", str(tmp_path))
    image_tree(tmp_path / "own")
    _, path = weights(tmp_path, "folder:own@8")
    (tmp_path / "real.json").write_text("[[0], [0], [0], [0]]")
    with pytest.raises(UserError, match="no number of ImageNet's validation images"):
        row(path, MODEL, "folder:own@8", 8, real_labels=tmp_path / "real.json")


# --- the paper's table ----------------------------------------------------------------------------------------------


def test_table_2_has_every_number_with_its_mark():
    table = paper_table("table2")
    assert len(table) == 6 * 6 and set(table["mark"]) == {"R", "M"}
    assert set(table.loc[table["augmented"] == "no", "source"]) == {MARKS["M"]}
    best = papers_numbers("B-12/Wi-1024", "cifar10")
    assert best == {"top1": 94.2, "top1_views": 95.5, "real": None, "real_views": None}
    assert papers_numbers("B-12/Wi-1024", "folder:sets/imagenet@64") == {
        "top1": 43.2,
        "top1_views": 51.4,
        "real": 48.6,
        "real_views": 57.9,
    }
    assert (
        papers_numbers("B-6/Wi-1024", "cifar100")["top1"] == 77.1
        and papers_numbers("B-6/Wi-32", "digits")["top1"] is None
    )


def test_parameters_of_table_2_are_those_of_the_pre_trained_networks():
    for name, millions in paper_table("table2")[["model", "parameters"]].drop_duplicates().itertuples(index=False):
        with torch.device("meta"):
            count = sum(p.numel() for p in build(name, 11_230, 64).parameters())
        assert abs(count / 1e6 - millions) < 1


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_command_prints_the_row_beside_the_papers(command, tmp_path):
    _, path = weights(tmp_path)
    given = ("evaluate", "--checkpoint", path, "--model", "B_1-Wi_16", "--dataset", "digits", "--device", "cpu")
    code, out, err = command(*given, "--resolution", 8, "--tta", 2)
    expected = row(path, MODEL, "digits", 8, views=2)
    assert (code, err) == (0, "") and out.splitlines()[0].endswith("0.0M parameters, 360 test images")
    assert f"test top-1: {expected['top1']:.1f}% (top-5 {expected['top5']:.1f}%); the paper: none" in out
    assert f"test top-1, mean of 2 crops: {expected['top1_views']:.1f}%" in out and "ReaL" not in out
    code, out, err = command(*given, "--resolution", 8, "--json")
    found = json.loads(out)
    assert (code, err) == (0, "") and found["top1"] == expected["top1"] and found["top1_views"] is None
    assert found["paper"]["top1"] is None and found["model"] == MODEL


def test_how_long_a_hundred_crops_take_is_said_first(capsys):
    """113 million multiply-adds an image (12288 x 1024 + 12 x 8 x 1024^2 + 10 x 1024), 10,000 images, 100 crops."""
    evaluate._say_how_long("B-12/Wi-1024", "cifar10", 64, 100)
    macs = 12288 * 1024 + 12 * 8 * 1024**2 + 10 * 1024
    assert f"{2e6 * macs:.2g} FLOPs, 25.2 min on two CPU cores" in capsys.readouterr().err
    evaluate._say_how_long("B-1/Wi-16", "digits", 8, 100)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "changes, message",
    [
        (("--resolution", "64"), "--resolution 8"),
        (("--model", "B-1/Wi-32"), "should be 32"),
        (("--model", "C-1"), "unknown model"),
        (("--dataset", "shapes"), "linear_in.weight is 16 x 64 and should be 16 x 192"),
        (("--dataset", "nothing"), "there is no data set"),
        (("--checkpoint", "nothing"), "there is no such file"),
        (("--crop-scale", "0"), "a share of the image's area"),
        (("--real-labels", "nothing.json"), "cannot be read"),
    ],
)
def test_a_mistake_is_one_line(command, tmp_path, changes, message):
    _, path = weights(tmp_path)
    given = {"--checkpoint": path, "--model": MODEL, "--dataset": "digits", "--resolution": "8", "--device": "cpu"}
    given |= {changes[0]: changes[1]}
    code, out, err = command("evaluate", *(part for pair in given.items() for part in pair))
    assert (code, out) == (2, "") and message in err and len(err.splitlines()) == 1 and err.startswith("error: ")
