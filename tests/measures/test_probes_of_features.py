"""The trained probe and the low-shot probe against cases whose answer is known."""

import numpy as np
import pytest
import torch
from torch import nn

from mlp_lib.errors import NotMeasurable
from mlp_lib.measures import features, low_shot, trained_probe
from mlp_lib.measures.applicable import TARGETS, obstacle, target_of
from mlp_lib.measures.features import Features, Part
from mlp_lib.measures.take import MEASURES, measure
from mlp_lib.models import build_for
from mlp_lib.records.run import make_run
from mlp_lib.training.loaders import load_data


def separable(count: int, classes: int = 4, seed: int = 0, noise: float = 0.1) -> Part:
    """Class k lies at three times the k-th unit vector."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    points = 3 * np.eye(classes)[labels] + noise * rng.normal(size=(count, classes))
    return Part(torch.from_numpy(points).float(), torch.from_numpy(labels))


def parts(noise: float = 0.1) -> Features:
    return Features(separable(200, noise=noise), separable(80, seed=1, noise=noise), separable(80, seed=2), 4)


def test_a_step_of_the_trained_probe_is_lions():
    """One batch, one step: every weight moves by exactly lr, against the sign of its gradient."""
    part = separable(16)
    head = trained_probe.train_linear(*part, 4, lr=1e-2, epochs=1, batch=16)
    start = trained_probe.train_linear(*part, 4, lr=1e-2, epochs=0, batch=16)
    logits = start(part.features)
    gradient = (logits.softmax(1) - torch.eye(4)[part.labels]).T @ part.features / 16  # (4, m), of the mean loss
    assert torch.allclose(head.weight, start.weight - 1e-2 * gradient.sign(), atol=1e-6)


def test_the_trained_probe_separates_what_a_line_separates_if_it_is_trained_for_long():
    found = trained_probe.score(parts(), lr=1e-2, epochs=20, batch=20)
    assert found == {"train_top1": 100.0, "val_top1": 100.0, "test_top1": 100.0}
    early = trained_probe.score(parts(), lr=1e-6, epochs=1, batch=20)  # it stops where it is, as the paper's does
    assert early["test_top1"] < 80


def test_one_image_a_class_is_enough_where_classes_are_points():
    found = low_shot.curve(parts(noise=1e-3), shots=(1, 5), draws=3)
    assert found["top1"] == [100.0, 100.0] and np.shape(found["draws"]) == (2, 3)


def test_draws_are_balanced_nested_and_differ():
    labels = separable(200).labels
    few, more, other = (low_shot.drawn(labels, n, draw) for n, draw in ((5, 0), (10, 0), (5, 1)))
    assert torch.bincount(labels[few]).tolist() == [5] * 4
    assert set(few.tolist()) < set(more.tolist()) and set(few.tolist()) != set(other.tolist())


def test_a_class_with_too_few_images_is_said():
    with pytest.raises(NotMeasurable, match="class 0 has 50 training images, and 60 are asked for"):
        low_shot.drawn(separable(200).labels, 60, 0)


def test_more_images_are_read_better():
    noise = np.random.default_rng(0).normal(size=(80, 4), scale=1.5)

    def blurred(part: Part) -> Part:
        return Part(part.features + torch.from_numpy(np.resize(noise, part.features.shape)).float(), part.labels)

    top1 = low_shot.curve(Features(*map(blurred, parts()[:3]), 4), shots=(1, 25), draws=4)["top1"]
    assert top1[1] > top1[0] + 5


def test_features_are_what_the_head_sees_and_are_computed_once(monkeypatch):
    run = make_run(model="B-1/Wi-16", dataset="digits", epochs=1, batch_size=32)
    model, data = build_for(run).eval(), load_data(run)
    found = features.features_on(model, run, data, "digits")
    with torch.no_grad():
        images = data.normalise(data.test.images)
        assert torch.allclose(model.head(found.test.features), model(images), atol=1e-5)
    monkeypatch.setattr(features, "features_of", None)  # a second look would call it
    assert features.features_on(model, run, data, "digits") is found
    with pytest.raises(TypeError):
        features.features_on(build_for(run), run, data, "digits")


def test_every_reader_has_its_targets_and_is_stored_as_json():
    names = {f"{reader}_{target}" for reader in ("probe", "trained_probe", "low_shot") for target in TARGETS}
    assert names <= set(MEASURES) and all(target_of(name) in TARGETS for name in names)
    assert target_of("first_layer") is None
    run = make_run(model="B-1/Wi-16", dataset="digits", epochs=1, batch_size=32)
    assert obstacle("low_shot_digits", run) is None and "3" in obstacle("low_shot_cifar10", run)
    model = build_for(run)
    assert isinstance(model, nn.Module)
    found = measure(("trained_probe_digits", "low_shot_digits"), model, run, load_data(run))
    assert found["low_shot_digits"]["shots"] == list(low_shot.SHOTS)
    assert found["low_shot_digits"]["top1"][-1] > 60  # random features of digits, 25 a class
    assert 0 <= found["trained_probe_digits"]["test_top1"] <= 100
