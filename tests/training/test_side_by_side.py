"""Runs trained side by side come to what they come to alone: weights, metrics, divergence, stops."""

import pytest
import torch
from helpers import HOW, keys, same, seeds, stop_at, weights_of

from mlp_lib.models import build_for
from mlp_lib.training import loop as training
from mlp_lib.training import stacked
from mlp_lib.training.loop import train
from mlp_lib.training.side_by_side import train_together

FAMILIES = {
    "B-MLP": {},
    "S-MLP": {"model": "S-2/Wi-32"},
    "post-norm": {"model": "S-2/Wi-32", "norm_position": "post", "skip": True},
    "ViT": {"model": "ViT-32x2/4"},
    "Mixer": {"model": "Mixer-32x2/4"},
    "CNN": {"model": "CNN-4", "norm": "none"},
}


def side_by_side(runs, folder, how=HOW, **options):
    """Outcome and model by key, as `train_together` yields them."""
    return {run.key: end for run, *end in train_together(runs, folder, how, **options)}


def moves(run, folder):
    """Every weight's way from the start to the end of a run, as one vector."""
    state = weights_of(folder, run.key)
    return torch.cat([(state[name] - p.detach()).flatten() for name, p in build_for(run).named_parameters()])


def assert_close(run, folder, alone, rtol=1e-3):
    ours, theirs = moves(run, folder), moves(run, alone)
    assert (ours - theirs).norm() < rtol * theirs.norm()


# --- one training or several: the same numbers --------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_each_run_takes_the_way_that_it_takes_alone(tmp_path, family):
    fields = dict(FAMILIES[family], augment="crop+mixup", schedule="cosine", warmup_steps=3, weight_decay=1e-3)
    runs = seeds(2, epochs=None, steps=12, **fields)
    runs.append(runs[0].but(lr=0.02, seed=5))
    ends = side_by_side(runs, tmp_path / "together")
    for run in runs:
        outcome, model = ends[run.key]
        alone, _ = train(run, tmp_path / "alone", HOW)
        assert (outcome.status, outcome.step, outcome.together, outcome.fingerprint) == ("ok", 12, 3, alone.fingerprint)
        assert_close(run, tmp_path / "together", tmp_path / "alone")
        assert not model.training and same(model.state_dict(), weights_of(tmp_path / "together", run.key))
        assert outcome.metrics == pytest.approx(alone.metrics, rel=1e-3, abs=0.3)
        for ours, theirs in zip(outcome.curve, alone.curve, strict=True):
            assert ours == pytest.approx(theirs, rel=1e-3, abs=0.3)
            assert ours["running_loss"] == pytest.approx(theirs["running_loss"], rel=1e-4)
    ways = [moves(run, tmp_path / "together") for run in runs]
    assert (ways[0] - ways[1]).norm() > 0.1 * ways[0].norm()  # else the tolerance would say nothing
    assert sorted(p.name for p in (tmp_path / "together").iterdir()) == sorted(f"{k}.safetensors" for k in keys(runs))


@pytest.mark.parametrize("optimizer", ["lion", "adamw"])
def test_the_first_steps_of_sign_like_optimisers_go_the_same_way(tmp_path, optimizer):
    """Both move every weight by about lr at first, by the gradient's sign: rounding flips few of them."""
    runs = seeds(3, optimizer=optimizer, lr=1e-3, epochs=None, steps=3)
    side_by_side(runs, tmp_path / "together")
    for run in runs:
        train(run, tmp_path / "alone", HOW)
        ours, theirs = moves(run, tmp_path / "together"), moves(run, tmp_path / "alone")
        assert theirs.abs().max() > 2e-3
        assert ((ours - theirs).abs() > 0.5e-3).float().mean() < 2e-3


def test_clipping_bounds_the_step_of_each_run_by_itself(tmp_path):
    runs = seeds(3, epochs=None, steps=1, momentum=0.0, lr=2.0, clip=1e-3)
    side_by_side(runs, tmp_path)
    for run in runs:
        assert moves(run, tmp_path).norm().item() == pytest.approx(2e-3, rel=1e-3)
    gradients = [torch.tensor([[3.0], [0.3]]), torch.tensor([[[4.0]], [[0.4]]])]  # of norms 5 and 0.5
    stacked._clip_each(gradients, 1.0)
    torch.testing.assert_close(gradients[0], torch.tensor([[0.6], [0.3]]))
    torch.testing.assert_close(gradients[1], torch.tensor([[[0.8]], [[0.4]]]))


def test_in_bf16_as_well(tmp_path):
    runs, how = seeds(2, epochs=2), HOW._replace(precision="bf16")
    ends = side_by_side(runs, tmp_path / "together", how)
    for run in runs:
        alone, _ = train(run, tmp_path / "alone", how)
        assert ends[run.key][0].precision == "bf16"
        assert ends[run.key][0].metrics["test_loss"] == pytest.approx(alone.metrics["test_loss"], rel=0.02)
        assert_close(run, tmp_path / "together", tmp_path / "alone", rtol=0.1)


def test_wanted_epochs_are_kept_and_children_start_from_parents_of_their_own(tmp_path):
    parents = seeds(2)
    side_by_side(parents, tmp_path, keep_epochs=(1,))
    shorter = [run.but(epochs=1) for run in parents]
    ends = side_by_side(shorter, tmp_path)
    for parent, run in zip(parents, shorter, strict=True):
        assert same(weights_of(tmp_path, f"{parent.key}@1"), weights_of(tmp_path, run.key))
        assert ends[run.key][0].step == 10
    children = [run.but(init={"run": run, "epoch": 1}, epochs=1, lr=1e-9) for run in parents]
    side_by_side(children, tmp_path)
    for parent, child in zip(parents, children, strict=True):
        start, end = weights_of(tmp_path, f"{parent.key}@1"), weights_of(tmp_path, child.key)
        assert all(torch.allclose(start[k], end[k], atol=1e-6) for k in start)


# --- divergence -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family, others, every", [("S-MLP", 2, 4), ("CNN", 2, 100), ("S-MLP", 1, 4)])
def test_a_run_that_diverges_leaves_the_others_alone(tmp_path, monkeypatch, family, others, every):
    monkeypatch.setattr(training, "CHECK_EVERY", every)  # 4: in the middle of an epoch
    fields = {**FAMILIES[family], "skip": None, "norm": "none", "epochs": 2}
    good = seeds(others, **fields)
    hot = good[0].but(lr=1e10, seed=9)
    ends = side_by_side([hot, *good], tmp_path / "together")
    alone, _ = train(hot, tmp_path / "alone", HOW)
    outcome, model = ends[hot.key]
    assert (outcome.status, outcome.step, outcome.metrics, model) == ("diverged", alone.step, {}, None)
    assert alone.step == min(every, 10)
    assert outcome.curve == alone.curve == []
    for run in good:
        expected, _ = train(run, tmp_path / "alone", HOW)
        outcome, _ = ends[run.key]
        assert (outcome.status, outcome.step, len(outcome.curve)) == ("ok", 20, 2)
        assert_close(run, tmp_path / "together", tmp_path / "alone")
        assert outcome.curve[0]["running_loss"] == pytest.approx(expected.curve[0]["running_loss"], rel=1e-4)
    assert not list((tmp_path / "together").glob("*.checkpoint"))


def test_all_may_diverge(tmp_path):
    runs = seeds(3, model="S-2/Wi-16", norm="none", lr=1e10)
    assert [o.status for o, _ in side_by_side(runs, tmp_path).values()] == ["diverged"] * 3
    assert list(tmp_path.iterdir()) == []


# --- stops ----------------------------------------------------------------------------------------------------------

DRAWING = dict(augment="crop+pad+mixup", pad=1, clip=1.0, schedule="cosine", warmup_steps=5)


@pytest.fixture(scope="module", params=["lion", "adamw", "sgd"])
def whole(request, tmp_path_factory):
    """Three runs trained together without interruption: (runs, ends, folder)."""
    folder = tmp_path_factory.mktemp("whole")
    runs = seeds(3, optimizer=request.param, lr=0.02 if request.param == "sgd" else 1e-3, **DRAWING)
    return runs, side_by_side(runs, folder), folder


@pytest.mark.parametrize("stops", [(13,), (1, 6, 9)], ids=["once", "often"])
def test_stopped_together_they_go_on_together_as_if_they_had_not(whole, tmp_path, stops):
    runs, expected, folder = whole
    done = 0
    for steps in stops:
        ends = side_by_side(runs, tmp_path, should_stop=stop_at(steps))
        done += steps
        assert [(o.status, o.step, m) for o, m in ends.values()] == [("paused", done, None)] * 3
        assert {p.name for p in tmp_path.iterdir()} == {f"{key}.checkpoint" for key in keys(runs)}
    ends = side_by_side(runs, tmp_path)
    for run in runs:
        ours, theirs = ends[run.key][0], expected[run.key][0]
        assert (ours.status, ours.metrics, ours.curve) == ("ok", theirs.metrics, theirs.curve)
        assert same(weights_of(tmp_path, run.key), weights_of(folder, run.key))
    assert not list(tmp_path.glob("*.checkpoint"))


def structure(value):
    """Types, shapes and bytes of what a checkpoint holds, without its numbers."""
    if torch.is_tensor(value):
        return value.dtype, tuple(value.shape), value.untyped_storage().nbytes()
    if isinstance(value, dict):
        return {key: structure(inner) for key, inner in value.items()}
    return [structure(inner) for inner in value] if isinstance(value, list | tuple) else type(value)


def test_a_checkpoint_does_not_tell_that_its_run_was_not_alone(whole, tmp_path):
    runs, expected, folder = whole
    side_by_side(runs, tmp_path / "together", should_stop=stop_at(13))
    for run in runs:
        train(run, tmp_path / "alone", HOW, should_stop=stop_at(13))
        ours, theirs = (torch.load(tmp_path / f / f"{run.key}.checkpoint") for f in ("together", "alone"))
        assert structure(ours) == structure(theirs)
        assert ours["optimizer"]["param_groups"] == theirs["optimizer"]["param_groups"]
        assert torch.equal(ours["rng"], theirs["rng"])
        outcome, _ = train(run, tmp_path / "together", HOW)  # goes on alone
        assert (outcome.status, outcome.step, outcome.together) == ("ok", 30, 1)
        assert len(outcome.curve) == 3 and outcome.curve[0] == expected[run.key][0].curve[0]
        if run.optimizer == "sgd":
            assert_close(run, tmp_path / "together", folder)


def test_runs_at_different_steps_are_taken_on_by_their_steps(tmp_path):
    runs = seeds(4)
    for run, step in zip(runs, (7, 7, 4), strict=False):
        train(run, tmp_path, HOW, should_stop=stop_at(step))
    ends = side_by_side(runs, tmp_path)
    assert [ends[run.key][0].together for run in runs] == [2, 2, 1, 1]
    for run in runs:
        train(run, tmp_path / "alone", HOW)
        assert_close(run, tmp_path, tmp_path / "alone")


def test_what_was_not_begun_before_a_stop_is_not_yielded(tmp_path):
    runs = seeds(3)
    for run, step in zip(runs, (7, 7), strict=False):
        train(run, tmp_path, HOW, should_stop=stop_at(step))
    ends = side_by_side(runs, tmp_path, should_stop=lambda: True)
    assert [(key, o.step) for key, (o, _) in ends.items()] == [(run.key, 8) for run in runs[:2]]


def test_out_of_memory_trains_them_one_by_one_and_says_so(tmp_path, monkeypatch, capsys):
    runs, real, calls = seeds(2), stacked.Stack.update, []

    def short_of_memory(self, batches):
        calls.append(1)
        if len(calls) == 3:
            raise torch.OutOfMemoryError("out of memory")
        return real(self, batches)

    monkeypatch.setattr(stacked.Stack, "update", short_of_memory)
    ends = side_by_side(runs, tmp_path / "together")
    assert capsys.readouterr().out == "out of memory: 2 runs do not fit side by side and are trained one by one\n"
    for run in runs:
        expected, _ = train(run, tmp_path / "alone", HOW)
        assert ends[run.key][0].metrics == expected.metrics and ends[run.key][0].together == 1
        assert same(weights_of(tmp_path / "together", run.key), weights_of(tmp_path / "alone", run.key))
