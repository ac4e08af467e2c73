"""Trainings that start from the weights of another."""

import pytest
import torch
from helpers import DIGITS, HOW, same, stop_at, weights_of

from mlp_lib.errors import UserError
from mlp_lib.models import build_for
from mlp_lib.records.run import make_run
from mlp_lib.training.loop import initial_model, train


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    """A trained parent with the weights of epochs 1 and 3, its last: (run, folder)."""
    folder, run = tmp_path_factory.mktemp("parent"), make_run(**DIGITS, dropout=0.1)
    train(run, folder, HOW, keep_epochs=[1, 3])
    return run, folder


def test_a_child_starts_from_the_parents_weights(parent):
    run, folder = parent
    child = make_run(**{**DIGITS, "seed": 9}, init={"run": run})
    assert same(initial_model(child, folder).state_dict(), weights_of(folder, run.key))
    early = child.but(init={"run": run, "epoch": 1})
    assert same(initial_model(early, folder).state_dict(), weights_of(folder, f"{run.key}@1"))
    assert not same(weights_of(folder, f"{run.key}@1"), weights_of(folder, run.key))
    last = child.but(init={"run": run, "epoch": 3})
    assert same(initial_model(last, folder).state_dict(), weights_of(folder, run.key))


def test_a_new_head_is_the_childs_own(parent):
    run, folder = parent
    child = make_run(**{**DIGITS, "seed": 9}, init={"run": run, "transform": "new_head"})
    state, taken, fresh = initial_model(child, folder).state_dict(), weights_of(folder, run.key), build_for(child)
    for name, value in state.items():
        expected = fresh.state_dict()[name] if name.startswith("linear_out") else taken[name]
        assert torch.equal(value, expected)


def test_a_child_trains_on_and_resumes(parent, tmp_path):
    run, folder = parent
    child = make_run(**DIGITS, init={"run": run}, seed=2)
    outcome, _ = train(child, folder, HOW)
    assert outcome.curve[0]["val_top1"] > 80  # after one epoch; the parent needed three
    for name in (f"{run.key}", f"{child.key}"):
        (tmp_path / f"{name}.safetensors").write_bytes((folder / f"{name}.safetensors").read_bytes())
    (tmp_path / f"{child.key}.safetensors").unlink()
    train(child, tmp_path, HOW, should_stop=stop_at(5))
    again, _ = train(child, tmp_path, HOW)
    assert again.metrics == outcome.metrics


def test_the_kept_epoch_is_what_a_shorter_run_gives(parent, tmp_path):
    run, folder = parent
    train(run.but(epochs=1), tmp_path, HOW)
    assert same(weights_of(tmp_path, run.but(epochs=1).key), weights_of(folder, f"{run.key}@1"))


def test_a_checkpoint_past_an_epoch_that_is_wanted_now_is_not_used(parent, tmp_path):
    run, folder = parent
    train(run, tmp_path, HOW, should_stop=stop_at(15))
    train(run, tmp_path, HOW, keep_epochs=[1])
    assert same(weights_of(tmp_path, f"{run.key}@1"), weights_of(folder, f"{run.key}@1"))


@pytest.mark.parametrize(
    "changes, transform, says",
    [
        (dict(model="B-2/Wi-16"), "same", "do not fit B-2/Wi-16"),
        (dict(model="B-2/Wi-16"), "new_head", "do not fit B-2/Wi-16"),
        (dict(model="B-3/Wi-32"), "new_head", "do not fit B-3/Wi-32"),
        (dict(model="B-1/Wi-32"), "same", "do not fit B-1/Wi-32"),
        (dict(model="S-2/Wi-32"), "new_head", "do not fit S-2/Wi-32"),
        (dict(resolution=12), "same", "do not fit B-2/Wi-32"),
    ],
)
def test_a_parent_that_does_not_fit_is_one_line(parent, changes, transform, says):
    run, folder = parent
    child = make_run(**{**DIGITS, **changes}, init={"run": run, "transform": transform})
    with pytest.raises(UserError, match=f"parent {run.key}.*{says}") as caught:
        train(child, folder, HOW)
    assert "\n" not in str(caught.value)


def test_missing_weights_of_a_parent_are_one_line(parent, tmp_path):
    run, folder = parent
    for child, where, name in (
        (make_run(**DIGITS, init={"run": run}), tmp_path, run.key),
        (make_run(**DIGITS, init={"run": run, "epoch": 2}), folder, f"{run.key}@2"),
    ):
        with pytest.raises(UserError, match=f"weights of run {name} are not at hand .*train that run again"):
            train(child, where, HOW)


def test_a_frozen_body_stays_and_a_fine_tuned_one_resumes_to_the_bit(parent, tmp_path):
    run, folder = parent
    options = dict(init={"run": run, "transform": "new_head"}, optimizer="sgd", lr=0.1, clip=1.0, seed=2)
    frozen = make_run(**{**DIGITS, "lr": 0.1, **options}, body_share=0.0)
    train(frozen, folder, HOW)
    state, start = weights_of(folder, frozen.key), weights_of(folder, run.key)
    assert all(torch.equal(value, start[name]) for name, value in state.items() if not name.startswith("linear_out"))
    tuned = frozen.but(body_share=0.1)
    whole, _ = train(tuned, folder, HOW)
    (tmp_path / f"{run.key}.safetensors").write_bytes((folder / f"{run.key}.safetensors").read_bytes())
    train(tuned, tmp_path, HOW, should_stop=stop_at(7))
    again, _ = train(tuned, tmp_path, HOW)
    assert again.metrics == whole.metrics and same(weights_of(tmp_path, tuned.key), weights_of(folder, tuned.key))
