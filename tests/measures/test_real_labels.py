"""Accuracy by several right labels an image, and the file that holds them."""

import json

import pytest
from helpers import one_line

from mlp_lib.errors import UserError
from mlp_lib.measures.real_labels import read_real_labels, real_accuracy


def test_images_without_labels_are_left_out():
    """Right, right (the second label), wrong, not counted, wrong: 2 of 4."""
    labels = [[3], [1, 7], [0], [], [2, 4]]
    assert real_accuracy([3, 7, 9, 5, 3], labels) == pytest.approx(50)
    assert real_accuracy([3, 7, 0, 5, 4], [frozenset(k) for k in labels]) == 100
    with pytest.raises(UserError, match="2 predictions and the labels of 1 images"):
        real_accuracy([1, 2], [[1]])
    with pytest.raises(UserError, match="no image has a label"):
        real_accuracy([1, 2], [[], []])


def test_with_one_label_an_image_it_is_accuracy():
    predictions, labels = [i * 7 % 10 for i in range(50)], [i % 10 for i in range(50)]
    expected = 100 * sum(p == k for p, k in zip(predictions, labels, strict=True)) / 50
    assert real_accuracy(predictions, [[label] for label in labels]) == pytest.approx(expected)


def test_the_published_form_is_read(tmp_path):
    path = tmp_path / "real.json"
    path.write_text(json.dumps([[65, 795], [], [970]]))
    assert read_real_labels(path) == [{65, 795}, set(), {970}]


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "is no JSON"),
        ("{}", "is no list of lists"),
        ("[]", "is no list of lists"),
        ("[[1], 2]", "entry 1 is no list of labels from 0 to 999"),
        ("[[1], [1000]]", "entry 1 is no list"),
        ("[[-1]]", "entry 0 is no list"),
        ('[["1"]]', "entry 0 is no list"),
        ("[[true]]", "entry 0 is no list"),
        ("[" * 100_000, "is no JSON"),
    ],
)
def test_other_files_are_one_line(content, message, tmp_path):
    path = tmp_path / "real.json"
    path.write_text(content)
    with pytest.raises(UserError, match=message) as error:
        read_real_labels(path)
    assert "real.json" in one_line(error)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match="cannot be read") as error:
        read_real_labels(tmp_path / "real.json")
    assert "real.json" in one_line(error)
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is no JSON"):
        read_real_labels(tmp_path / "bytes.json")
