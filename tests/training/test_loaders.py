"""Batches: what is in them, in which order, and that any of them can be rebuilt alone."""

import numpy as np
import pytest
import torch

from mlp_lib import datasets
from mlp_lib.datasets import sets
from mlp_lib.records.run import make_run
from mlp_lib.training import augment
from mlp_lib.training.loaders import epoch_batches, load_data, plain_batches

ALL = dict(model="B-2/Wi-32", dataset="shapes", subset=300, batch_size=64, epochs=3, seed=7)
MIXED = dict(ALL, augment="flip+crop+pad+mixup", permute_seed=2)


def batches(run, epoch=0, start=0):
    return list(epoch_batches(run, load_data(run), epoch, start))


def test_normalisation_by_the_sets_statistics():
    data = load_data(make_run(model="B-2/Wi-32", dataset="shapes", epochs=1, split="all"))
    images = torch.cat([x for x, _ in plain_batches(data, data.train)])
    assert images.shape == (5000, 3, 32, 32) and images.dtype == torch.float32
    torch.testing.assert_close(images.mean((0, 2, 3)), torch.zeros(3), atol=2e-3, rtol=0)
    torch.testing.assert_close(images.std((0, 2, 3)), torch.ones(3), atol=2e-3, rtol=0)
    raw, facts = datasets.load("shapes").train_images[5], datasets.facts("shapes")
    by_hand = (raw / 255 - np.array(facts.mean)[:, None, None]) / np.array(facts.std)[:, None, None]
    np.testing.assert_allclose(images[5], by_hand, atol=1e-5)
    assert len(data.val.labels) == 0 and len(data.test.labels) == 1000


def test_plain_batches_keep_the_order_and_the_last_part():
    data = load_data(make_run(**ALL))
    sizes = [len(y) for _, y in plain_batches(data, data.train, size=128)]
    labels = torch.cat([y for _, y in plain_batches(data, data.train, size=128)])
    assert sizes == [128, 128, 44] and torch.equal(labels, data.train.labels)


def test_training_validation_and_test_images_are_disjoint():
    run = make_run(**ALL)
    data = load_data(run)
    parts = [{image.numpy().tobytes() for image in split.images} for split in (data.train, data.val, data.test)]
    assert [len(part) for part in parts] == [300, 500, 1000]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    whole = load_data(run.but(subset=None))
    assert parts[0] <= {image.numpy().tobytes() for image in whole.train.images}
    assert torch.equal(whole.val.images, data.val.images)


def test_an_epoch_shows_distinct_examples_and_drops_the_rest():
    run = make_run(**ALL, label_smoothing=0.0)
    data = load_data(run)
    known = {data.normalise(image[None])[0].numpy().tobytes(): int(y) for image, y in zip(*data.train, strict=True)}
    assert len(known) == 300
    seen = []
    for images, targets in batches(run):
        assert images.shape == (64, 3, 32, 32) and targets.shape == (64, 10)
        seen += [image.numpy().tobytes() for image in images]
        assert [known[image] for image in seen[-64:]] == targets.argmax(1).tolist()
        assert targets.max() == targets.sum(1).min() == 1
    assert len(seen) == len(set(seen)) == 4 * 64


def test_targets_are_smoothed_and_mixed_probabilities():
    run = make_run(**ALL, label_smoothing=0.3)
    (_, targets), *_ = batches(run)
    assert torch.equal(targets.sort(1).values[:, :9], torch.full((64, 9), 0.03))
    torch.testing.assert_close(targets.max(1).values, torch.full((64,), 0.73))
    for _, mixed in batches(make_run(**MIXED)):
        torch.testing.assert_close(mixed.sum(1), torch.ones(64))
        assert mixed.min() >= 0.029 and ((mixed > 0.031).sum(1) <= 2).all() and ((mixed > 0.031).sum(1) == 2).any()


def test_mixup_mixes_images_and_targets_by_the_same_share():
    run, mixed_run = make_run(**ALL), make_run(**ALL, augment="mixup")
    lambdas = augment.mixup_lambda(augment.Augmentation.from_run(mixed_run), 7, 1, 4)
    assert ((0 < lambdas) & (lambdas < 1)).all() and len(set(lambdas.tolist())) == 4
    for plain, mixed, lam in zip(batches(run, 1), batches(mixed_run, 1), lambdas, strict=True):
        for one, two in zip(plain, mixed, strict=True):
            torch.testing.assert_close(two, lam * one + (1 - lam) * one.flip(0))


@pytest.mark.parametrize("fields", [ALL, MIXED], ids=["plain", "augmented"])
def test_batches_depend_on_seed_and_epoch_alone(fields):
    run = make_run(**fields)
    first = batches(run, 1)
    torch.rand(10)  # the global generator plays no part
    for a, b in zip(first, batches(run, 1), strict=True):
        assert torch.equal(a.images, b.images) and torch.equal(a.targets, b.targets)
    for other in (batches(run, 2), batches(run.but(seed=8), 1)):
        assert not torch.equal(first[0].images, other[0].images)


@pytest.mark.parametrize("fields", [ALL, MIXED], ids=["plain", "augmented"])
def test_starting_late_is_skipping(fields):
    run = make_run(**fields)
    for start in (1, 3, 4):
        late, whole = batches(run, 2, start), batches(run, 2)[start:]
        assert len(late) == len(whole) == 4 - start
        for a, b in zip(late, whole, strict=True):
            assert torch.equal(a.images, b.images) and torch.equal(a.targets, b.targets)


def test_an_examples_augmentation_does_not_depend_on_the_batch_size():
    def images(size):
        run = make_run(**{**ALL, "batch_size": size}, augment="flip+crop+pad")
        return torch.cat([batch.images for batch in batches(run)])

    torch.testing.assert_close(images(100), images(60))


def test_the_permutation_comes_last_and_is_the_same_for_every_image():
    plain, permuted = (make_run(**{**MIXED, "permute_seed": seed}) for seed in (None, 2))
    order = datasets.pixel_permutation(3, 32, 2)
    assert sorted(order) == list(range(1024)) and (order != np.arange(1024)).mean() > 0.9
    for a, b in zip(batches(plain), batches(permuted), strict=True):
        assert torch.equal(a.images.flatten(2)[:, :, order], b.images.flatten(2))
    data, other = load_data(plain), load_data(permuted)
    (x, _), (y, _) = next(plain_batches(data, data.test)), next(plain_batches(other, other.test))
    assert torch.equal(x.flatten(2)[:, :, order], y.flatten(2))


def test_images_come_at_the_runs_resolution():
    data = load_data(make_run(model="B-2/Wi-32", dataset="digits", epochs=1, resolution=12, permute_seed=0))
    assert data.train.images.shape[1:] == (1, 12, 12) and data.train.images.dtype == torch.uint8
    assert data.permutation.shape == (144,)


def test_what_runs_read_alike_is_in_memory_once(monkeypatch):
    run = make_run(**ALL)
    assert load_data(run) is load_data(run.but(seed=1, model="S-1/Wi-8", augment="flip"))
    assert load_data(run) is not load_data(run.but(subset=299))
    everything = load_data(run.but(subset=None, split="all"))
    assert np.shares_memory(everything.train.images.numpy(), datasets.load("shapes").train_images)
    kept = datasets.load("digits")
    assert datasets.load("digits") is kept
    monkeypatch.setattr(sets, "KEPT_PIXELS", 1000)  # now it is a large one
    again = datasets.load("digits")
    assert again is not kept and again.fingerprint == kept.fingerprint


def test_another_folder_of_images_is_another_set(tmp_path, monkeypatch):
    run_data = []
    for name, grey in (("one", 10), ("two", 200)):
        folder = tmp_path / name / "mine"
        folder.mkdir(parents=True)
        for part in ("train", "test"):
            images = np.full((20, 8, 8, 3), grey, np.uint8)
            images[0, :4] += 20  # else it has no variance, and is refused
            np.savez(folder / f"{part}.npz", images=images, labels=np.arange(20) % 2)
        monkeypatch.setenv("MLP_LIB_DATA", str(tmp_path / name))
        run = make_run(model="S-1/Wi-8", dataset="npz:mine", epochs=1, batch_size=4)
        run_data.append(load_data(run).train.images)
    assert [int(images[-1, 0, -1, -1]) for images in run_data] == [10, 200]
