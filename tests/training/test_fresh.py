"""Runs on fresh images: none comes twice, resuming is exact, and the stream of images is one."""

import numpy as np
import pytest
import torch
from helpers import HOW, record_of, stop_at

from mlp_lib import datasets
from mlp_lib.datasets import shapes
from mlp_lib.errors import UserError
from mlp_lib.records.record import Record
from mlp_lib.records.run import make_run
from mlp_lib.training.loaders import epoch_batches, load_data
from mlp_lib.training.loop import train
from mlp_lib.training.side_by_side import groups

FIELDS = dict(model="S-1/Wi-16", dataset="shapes-moved", subset=40, batch_size=10, lr=1e-3, fresh=True)


def seen(run, epochs: int) -> np.ndarray:
    """The images of so many epochs, one after another, (n, 3, 32, 32) as bytes, each epoch's in a sorted order."""
    data = load_data(run)
    rows = []
    for epoch in range(epochs):
        batches = torch.cat([batch.images for batch in epoch_batches(run, data, epoch)])
        raw = (batches * data.std + data.mean).round().to(torch.uint8).numpy().reshape(len(batches), -1)
        rows.append(raw[np.lexsort(raw.T)])
    return np.concatenate(rows)


def test_no_image_comes_twice_and_none_is_of_the_sets_own():
    found = seen(make_run(**FIELDS, epochs=5), 5)
    stock = datasets.load("shapes-moved")
    own = np.concatenate([stock.train_images, stock.test_images]).reshape(-1, found.shape[1])
    assert len(np.unique(found, axis=0)) == len(found) == 200
    assert len(np.unique(np.concatenate([found, own[:3000]]), axis=0)) == 200 + len(np.unique(own[:3000], axis=0))


def test_the_stream_is_one_however_it_is_cut_into_epochs():
    long, short = make_run(**{**FIELDS, "subset": 80}, epochs=1), make_run(**FIELDS, epochs=2)
    first, second = seen(long, 1), seen(short, 2)
    assert np.array_equal(first, second[np.lexsort(second.T)])
    images, labels = datasets.fresh("shapes-moved", 80, seed=0)
    raw = images.reshape(80, -1)
    assert np.array_equal(raw[np.lexsort(raw.T)], first) and labels.shape == (80,)
    factors = shapes.SETS["shapes-moved"].factors
    assert np.array_equal(shapes.render(10, 2, factors, start=70).images, images[70:])


def test_the_images_have_a_seed_of_their_own():
    run = make_run(**FIELDS, epochs=1)
    assert np.array_equal(seen(run, 1), seen(run.but(seed=7), 1))
    assert not np.array_equal(seen(run, 1), seen(run.but(data_seed=1), 1))
    assert len(groups([run, run.but(seed=1)], 8)) == 1 and len(groups([run, run.but(data_seed=1)], 8)) == 2


def test_validation_and_test_are_the_sets_own():
    fresh, plain = load_data(make_run(**FIELDS, epochs=1)), load_data(make_run(**{**FIELDS, "fresh": False}, epochs=1))
    assert torch.equal(fresh.val.images, plain.val.images) and torch.equal(fresh.test.images, plain.test.images)
    assert fresh.train.images.shape == plain.train.images.shape
    assert not torch.equal(fresh.train.images, plain.train.images)


def test_a_run_on_fresh_images_resumes_to_the_bit(tmp_path):
    run = make_run(**FIELDS, epochs=4)  # 16 steps
    whole, _ = train(run, tmp_path / "whole", HOW)
    for step in (6, 5):  # in the second epoch, then in the third
        train(run, tmp_path / "parts", HOW, should_stop=stop_at(step))
    parts, _ = train(run, tmp_path / "parts", HOW)
    assert parts.metrics == whole.metrics
    assert [p["val_loss"] for p in parts.curve] == [p["val_loss"] for p in whole.curve]


def test_only_drawn_sets_are_endless():
    with pytest.raises(UserError, match="fresh: digits has no more images than it has; those of shapes, shapes-cent"):
        make_run(**{**FIELDS, "dataset": "digits"}, epochs=1)
    with pytest.raises(UserError, match="data_seed=1 has no effect without fresh"):
        make_run(**{**FIELDS, "fresh": False}, data_seed=1, epochs=1)


def test_records_from_before_keep_their_bytes():
    """What a run has not set of the fields that came later is not written: a record's name is a digest of it."""
    plain, fresh = (record_of(make_run(**{**FIELDS, "fresh": value}, epochs=1)) for value in (False, True))
    assert not any(f'"{name}"' in plain.to_json() for name in ("fresh", "data_seed", "body_share"))
    assert '"fresh": true' in fresh.to_json() and '"data_seed"' not in fresh.to_json()
    assert Record.model_validate_json(fresh.to_json()).run == fresh.run
