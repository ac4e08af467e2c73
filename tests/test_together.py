"""Runs trained side by side come to what they come to alone: weights, records, divergence, stops; and who may join."""

import json
import time

import filelock
import pytest
import torch
from helpers import DIGITS, HOW, record_of, same, stop_at, weights_of

from mlp_lib import cli, stack, studies, together
from mlp_lib import execute as executing
from mlp_lib import train as training
from mlp_lib.ensure import ensure
from mlp_lib.errors import UserError
from mlp_lib.execute import execute_together
from mlp_lib.models import build_for
from mlp_lib.records import Store, read_record
from mlp_lib.runs import make_run
from mlp_lib.together import arranged, can_stack, groups, pays, train_together
from mlp_lib.train import train

SGD = dict(DIGITS, optimizer="sgd", lr=0.05)
FAMILIES = {
    "B-MLP": {},
    "S-MLP": {"model": "S-2/Wi-32"},
    "post-norm": {"model": "S-2/Wi-32", "norm_position": "post", "skip": True},
    "ViT": {"model": "ViT-32x2/4"},
    "Mixer": {"model": "Mixer-32x2/4"},
    "CNN": {"model": "CNN-4", "norm": "none"},
}


def seeds(count, **fields):
    run = make_run(**{**SGD, **fields})
    return [run.but(seed=seed) for seed in range(count)]


def keys(runs):
    return [run.key for run in runs]


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
        assert (outcome.status, outcome.step, outcome.together, outcome.fingerprint) == (
            "ok", 12, 3, alone.fingerprint)  # fmt: skip
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
    stack._clip_each(gradients, 1.0)
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
    runs, real, calls = seeds(2), stack.Stack.update, []

    def short_of_memory(self, batches):
        calls.append(1)
        if len(calls) == 3:
            raise torch.OutOfMemoryError("out of memory")
        return real(self, batches)

    monkeypatch.setattr(stack.Stack, "update", short_of_memory)
    ends = side_by_side(runs, tmp_path / "together")
    assert capsys.readouterr().out == "out of memory: 2 runs do not fit side by side and are trained one by one\n"
    for run in runs:
        expected, _ = train(run, tmp_path / "alone", HOW)
        assert ends[run.key][0].metrics == expected.metrics and ends[run.key][0].together == 1
        assert same(weights_of(tmp_path / "together", run.key), weights_of(tmp_path / "alone", run.key))


# --- who is trained with whom -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [{"model": "CNN-4"}, {"norm": "batch"}, {"dropout": 0.1},
                                    {"model": "ResNet18", "resolution": 32, "dataset": "shapes"}])  # fmt: skip
def test_batch_norm_and_dropout_are_never_together(fields):
    runs = seeds(3, **fields)
    assert not any(map(can_stack, runs)) and groups(runs, 8) == [[run] for run in runs]
    assert [len(part) for part in arranged(runs, HOW._replace(together=8))] == [1, 1, 1]


def test_only_seed_and_learning_rate_may_differ():
    runs = seeds(3)
    rates = [run.but(lr=0.5) for run in runs]
    others = [runs[0].but(**change) for change in (
        {"epochs": 4}, {"batch_size": 64}, {"subset": 500}, {"augment": "flip"}, {"model": "B-2/Wi-16"},
        {"weight_decay": 0.1}, {"clip": 1.0}, {"schedule": "cosine"}, {"label_smoothing": 0.0}, {"permute_seed": 1},
    )]  # fmt: skip
    mixed = [runs[0], *others, rates[0], runs[1], rates[2], runs[2], rates[1]]
    together, *alone = groups(mixed, 8)
    assert sorted(keys(together)) == sorted(keys([*runs, *rates])) and sorted(map(keys, alone)) == sorted(
        [run.key] for run in others
    )
    assert [run.lr for run in together] == [0.05] * 3 + [0.5] * 3
    assert [len(part) for part in groups(mixed, 4)[:2]] == [3, 3]  # even parts
    assert [len(part) for part in groups(mixed, 1)] == [1] * 16
    assert groups(runs, 8, apart=lambda run: run.seed == 0) == [[runs[0]], runs[1:]]


def test_parents_come_before_their_children_and_never_among_them():
    parents = seeds(3)
    children = [run.but(init={"run": run}) for run in parents]
    mixed = [children[0], parents[1], children[1], parents[2], children[2]]  # the first parent is at hand
    assert groups(mixed, 8) == [parents[1:], children]


@pytest.mark.parametrize("faster", [True, False])
def test_on_cuda_a_measurement_decides_and_elsewhere_nothing_is_together_unasked(monkeypatch, faster):
    runs, asked = [*seeds(3), *seeds(10, epochs=4), make_run(**dict(SGD, model="CNN-4"))], []
    assert list(arranged(runs, HOW)) == [[run] for run in runs]  # a CPU

    def measured(members, how):
        asked.append(len(members))
        return faster

    monkeypatch.setattr(together, "pays", measured)
    monkeypatch.setattr(training, "pick_device", lambda name: torch.device("cuda"))
    sizes = [len(part) for part in arranged(runs, HOW)]
    assert sizes == ([3, 5, 5, 1] if faster else [1] * 14) and asked == [3, 5]  # the second five are like the first
    assert [len(part) for part in arranged(runs, HOW._replace(together=2))] == [1, 2] + [2] * 5 + [1]
    assert [len(part) for part in arranged(runs, HOW._replace(together=1))] == [1] * 14
    assert [len(part) for part in arranged(runs, HOW._replace(accumulate=2))] == [1] * 14
    assert asked == [3, 5]  # who is told does not measure


@pytest.mark.parametrize("stacked, expected", [(3.1, True), (3.3, False)])
def test_together_pays_when_it_saves_a_fifth(monkeypatch, stacked, expected):
    works, times = [], iter([1.0, stacked])

    def fake(work, device, limit):
        work()
        works.append(limit)
        return next(times)

    monkeypatch.setattr(training, "seconds_of", fake)
    before = torch.get_rng_state()
    assert pays(seeds(4), HOW) is expected
    assert len(works) == 2 and sum(works) < 0.5 and torch.equal(before, torch.get_rng_state())


def test_what_does_not_fit_does_not_pay(monkeypatch):
    def full(self, batches):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(stack.Stack, "update", full)
    assert pays(seeds(2), HOW) is False


# --- records ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


@pytest.fixture
def calls(monkeypatch):
    """Keys of each call that trained, in order."""
    seen = []
    for name in ("execute", "execute_together"):
        real = getattr(executing, name)

        def noted(runs, *args, real=real, **options):
            seen.append(keys(runs) if isinstance(runs, list) else [runs.key])
            return real(runs, *args, **options)

        monkeypatch.setattr(executing, name, noted)
    return seen


def ensured(runs, store, most=4, **options):
    return ensure(runs, store=store, how=HOW._replace(together=most), progress=False, **options)


def test_ensure_writes_one_record_each_and_asks_nothing_twice(store, calls, tmp_path):
    runs = seeds(5)
    norm = runs[0].but(norm="batch")
    child = runs[1].but(init={"run": runs[1], "epoch": 1}, epochs=1)
    started = time.perf_counter()
    frame = ensured([norm, child, *runs], store, measures=("first_layer",))
    wall = time.perf_counter() - started
    assert frame["key"].tolist() == keys([norm, child, *runs]) and set(frame["status"]) == {"ok"}
    assert frame["together"].tolist() == [1, 1, 4, 1, 4, 4, 4]  # the parent's first epoch is kept: it is apart
    assert sorted(map(len, calls)) == [1, 1, 1, 4] and calls[-1] == [child.key]
    assert 0 < sum(frame["seconds"]) <= wall and all(frame["images_per_second"] > 0)
    assert [sorted(m) for m in frame["measures"]] == [["first_layer"]] * 7
    assert len(list(store.folder.glob("*.json"))) == 7 and not list(store.weights.glob("*.checkpoint"))
    for path in store.folder.glob("*.json"):
        record, stored = read_record(path), json.loads(path.read_text())
        assert path.name == record.filename and record.key == record.run.key and record.steps == record.run.total_steps
        assert stored.get("together") == (None if record.together == 1 else 4)
    calls.clear()
    ensured([norm, child, *runs], store, measures=("first_layer",))
    assert calls == []
    alone = ensure(runs, store=Store(tmp_path / "alone"), how=HOW, progress=False)
    assert frame["test_loss"][2:].tolist() == pytest.approx(alone["test_loss"].tolist(), rel=1e-3)
    assert frame["test_top1"][2:].tolist() == pytest.approx(alone["test_top1"].tolist(), abs=0.6)  # one image: 0.28


def test_a_record_of_a_run_alone_is_written_as_ever():
    alone = record_of(make_run(**DIGITS))
    assert "together" not in json.loads(alone.to_json())
    three = alone.model_copy(update={"together": 3})
    assert json.loads(three.to_json()) == {**json.loads(alone.to_json()), "together": 3}
    assert three.filename != alone.filename


def test_a_budget_stops_all_with_checkpoints_and_later_calls_go_on(store, calls, tmp_path):
    runs = seeds(4)
    expected = ensured(runs, Store(tmp_path / "expected"))
    for step in (1, 2):
        assert set(ensured(runs, store, budget_minutes=0.0)["status"]) == {"not run"}
        saved = [torch.load(store.weights / f"{key}.checkpoint") for key in keys(runs)]
        assert [state["step"] for state in saved] == [step] * 4
    frame = ensured(runs, store)
    assert frame["test_loss"].tolist() == expected["test_loss"].tolist()
    assert frame["curve"].tolist() == expected["curve"].tolist()


def test_a_run_that_another_process_trains_is_not_touched(store):
    runs = seeds(3)
    store.weights.mkdir(parents=True)
    with filelock.FileLock(store.weights / f"{runs[1].key}.lock"):
        with pytest.raises(UserError, match=f"run {runs[1].key} is being trained by another process"):
            execute_together(runs, store, HOW)
        assert list(store) == []
    assert [result.record.status for result in execute_together(runs, store, HOW)] == ["ok"] * 3


def test_a_crash_is_that_of_all_that_have_not_ended_and_is_tried_again(store, monkeypatch):
    runs, real, finished = seeds(3), training.finish, []

    def crash(loop, *args):
        finished.append(loop)
        return 1 / 0 if len(finished) == 2 else real(loop, *args)

    with monkeypatch.context() as patch:
        patch.setattr(training, "finish", crash)
        with pytest.raises(ZeroDivisionError):
            ensured(runs, store)
    assert sorted(record.status for record in store) == ["failed", "failed", "ok"]
    assert {r.error for r in store if r.status == "failed"} == {"ZeroDivisionError: division by zero"}
    assert set(ensured(runs, store)["status"]) == {"ok"} and len(list(store)) == 3


def test_a_diverged_parent_is_one_line(store):
    runs = seeds(2)
    store.add(record_of(runs[1], status="diverged"))
    with pytest.raises(UserError, match=f"starts from {runs[1].key}, which diverged"):
        execute_together([run.but(init={"run": run}) for run in runs], store, HOW)
    assert len(list(store)) == 1


@pytest.mark.parametrize(
    "most, options, says",
    [(0, {}, "together=0 must be at least 1"), (4, {"workers": 2}, "together=4 trains runs in one process, workers=2")],
)
def test_what_cannot_be_is_one_line(store, most, options, says):
    with pytest.raises(UserError, match=says):
        ensured(seeds(2), store, most, **options)


def test_a_study_is_told_on_the_command_line(monkeypatch, tmp_path):
    told = []

    def training_of(store, measures, how, **options):
        told.append(how.together)
        raise UserError("enough")

    monkeypatch.setattr(studies, "training", training_of)
    for arguments in ([], ["--together", "5"]):
        with pytest.raises(UserError, match="enough"):
            cli.app(["study", "rq1", "--preset", "smoke", "--device", "cpu", "--precision", "fp32", "--out",
                     str(tmp_path), *arguments], standalone_mode=False)  # fmt: skip
    assert told == [None, 5]
