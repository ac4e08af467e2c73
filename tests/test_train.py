"""The training loop against a plain loop, and that nothing which interrupts it changes a number."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, log_loss, top_k_accuracy_score

from mlp_lib import loaders
from mlp_lib import train as training
from mlp_lib.errors import UserError
from mlp_lib.models import build, build_for
from mlp_lib.runs import make_run
from mlp_lib.train import How, declared_steps, evaluate, initial_model, pick_device, train

HOW = How("cpu", "fp32", threads=1)
DIGITS = dict(model="B-2/Wi-32", dataset="digits", epochs=3, lr=1e-3)  # 10 steps of 128 an epoch
# Everything that draws random numbers, and an optimiser with state.
RICH = dict(DIGITS, augment="crop+pad+mixup", pad=1, dropout=0.2, clip=1.0, schedule="cosine", warmup_steps=5)


def weights_of(folder: Path, name: str) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / f"{name}.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def stop_at(step: int):
    """A `should_stop` that says yes after so many steps of this call."""
    calls = iter(range(1, 10**6))
    return lambda: next(calls) >= step


@pytest.fixture(scope="module")
def rich(tmp_path_factory):
    """RICH trained without interruption: (run, outcome, folder)."""
    folder, run = tmp_path_factory.mktemp("rich"), make_run(**RICH)
    outcome, model = train(run, folder, HOW)
    assert outcome.status == "ok" and not model.training
    return run, outcome, folder


def assert_same_run(outcome, folder, reference):
    run, expected, expected_folder = reference
    assert outcome.status == "ok" and outcome.metrics == expected.metrics and outcome.curve == expected.curve
    assert same(weights_of(folder, run.key), weights_of(expected_folder, run.key))
    assert not list(folder.glob("*.checkpoint")) and not list(folder.glob("*.part"))


# --- what the loop computes -----------------------------------------------------------------------------------------


def test_loop_against_a_plain_one(tmp_path):
    """Label smoothing, decay, momentum, clipping and the schedule, by torch's own means."""
    run = make_run(
        model="B-1/Wi-16", dataset="digits", epochs=2, optimizer="sgd", lr=0.1, weight_decay=1e-3, schedule="linear",
        clip=0.5, seed=4,
    )  # fmt: skip
    outcome, trained = train(run, tmp_path, HOW)

    data, model = loaders.load_data(run), build_for(run)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 20)
    labels = {data.normalise(x[None]).numpy().tobytes(): y for x, y in zip(*data.train, strict=True)}
    losses = []
    for epoch in range(2):
        for images, _ in loaders.epoch_batches(run, data, epoch):
            y = torch.stack([labels[image[None].numpy().tobytes()] for image in images])
            loss = F.cross_entropy(model(images), y, label_smoothing=0.3)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            rates.step()
            losses.append(loss.item())
    for ours, theirs in zip(trained.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)
    assert [p["running_loss"] for p in outcome.curve] == pytest.approx([sum(losses[:10]) / 10, sum(losses[10:]) / 10])
    assert same(weights_of(tmp_path, run.key), trained.state_dict())


def test_a_small_mlp_learns_digits(rich):
    _, outcome, _ = rich
    assert outcome.metrics["test_top1"] > 70  # chance is 10


def test_metrics_are_scikit_learns(rich):
    run, outcome, folder = rich
    data, model = loaders.load_data(run), build_for(run).eval()
    model.load_state_dict(weights_of(folder, run.key))
    for name in ("train", "val", "test"):
        split = getattr(data, name)
        with torch.no_grad():
            logits = model(data.normalise(split.images)).double()
        y, p = split.labels.numpy(), logits.softmax(1).numpy()
        ours = {k: outcome.metrics[f"{name}_{k}"] for k in ("top1", "top5", "loss")}
        assert ours["top1"] == pytest.approx(100 * accuracy_score(y, p.argmax(1)))
        assert ours["top5"] == pytest.approx(100 * top_k_accuracy_score(y, p, k=5))
        assert ours["loss"] == pytest.approx(log_loss(y, p), rel=1e-5)
    assert outcome.curve[-1]["val_top1"] == outcome.metrics["val_top1"]
    assert not any(key.startswith("test") for point in outcome.curve for key in point)


def test_top5_of_three_classes_is_everything_and_evaluation_keeps_the_mode():
    images, labels = torch.randint(0, 255, (5000, 1, 8, 8), dtype=torch.uint8), torch.randint(0, 3, (5000,))
    split = loaders.Split(images, labels)
    data = loaders.Data(split, split, split, torch.zeros(1, 1, 1), torch.ones(1, 1, 1), None, 3, "")
    model = build("S-1/Wi-8", 3, 8, channels=1, norm="batch").train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert evaluate(model, data, split)["top5"] == 100
    assert model.training and same(before, model.state_dict())


def test_curve_is_at_the_declared_epochs(tmp_path):
    run = make_run(**{**DIGITS, "epochs": 12, "model": "S-1/Wi-8"})
    outcome, _ = train(run, tmp_path, HOW)
    assert [p["epoch"] for p in outcome.curve] == [1, 2, 3, 5, 7, 10, 12]
    assert declared_steps(run.but(epochs=200))[-4:] == [500, 700, 1000, 2000]


def test_steps_need_not_be_whole_epochs(tmp_path):
    run = make_run(model="S-1/Wi-8", dataset="digits", steps=25)
    outcome, _ = train(run, tmp_path, HOW)
    assert outcome.step == 25 and [p["epoch"] for p in outcome.curve] == [1, 2, 2.5]
    short, _ = train(run.but(steps=3), tmp_path, HOW)
    assert [p["epoch"] for p in short.curve] == [0.3]


def test_without_a_validation_part_there_are_no_validation_metrics(tmp_path):
    outcome, _ = train(make_run(**{**DIGITS, "split": "all", "epochs": 1}), tmp_path, HOW)
    assert {k.split("_")[0] for k in outcome.metrics} == {"train", "test"}
    assert {k.split("_")[0] for k in outcome.curve[0]} == {"epoch", "step", "running", "train"}


def test_clipping_bounds_the_step(tmp_path):
    run = make_run(model="S-1/Wi-8", dataset="digits", steps=1, optimizer="sgd", momentum=0.0, lr=2.0, clip=1e-3)
    _, trained = train(run, tmp_path, HOW)
    moved = torch.cat([(a - b).flatten() for a, b in zip(trained.parameters(), build_for(run).parameters(), strict=True)])
    assert moved.norm().item() == pytest.approx(2e-3, rel=1e-3)


def test_accumulation_is_the_same_up_to_rounding(tmp_path):
    run = make_run(**{**DIGITS, "optimizer": "sgd", "lr": 0.05, "augment": "mixup"})
    whole, model = train(run, tmp_path / "1", HOW)
    for parts in (4, 5):  # 128 is no multiple of 5
        split, other = train(run, tmp_path / str(parts), HOW._replace(accumulate=parts))
        assert split.accumulate == parts
        for a, b in zip(model.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)
        assert split.metrics["test_loss"] == pytest.approx(whole.metrics["test_loss"], rel=1e-3)


@pytest.mark.parametrize("fields", [{"model": "CNN-4"}, {"norm": "batch"}])
def test_accumulation_is_refused_with_batch_norm(tmp_path, fields):
    with pytest.raises(UserError, match="BatchNorm.*accumulate=1"):
        train(make_run(**{**DIGITS, **fields}), tmp_path, HOW._replace(accumulate=2))


def test_out_of_memory_splits_the_batch_and_says_so(tmp_path, monkeypatch, capsys):
    run, real, calls = make_run(**{**DIGITS, "optimizer": "sgd", "lr": 0.05}), training.batch_gradient, []
    expected, _ = train(run, tmp_path / "expected", HOW)

    def short_of_memory(model, batch, parts, precision):
        calls.append(parts)
        if len(calls) == 3:
            real(model, batch, parts, precision)  # half-done work must not count
            raise torch.OutOfMemoryError("out of memory")
        return real(model, batch, parts, precision)

    monkeypatch.setattr(training, "batch_gradient", short_of_memory)
    outcome, _ = train(run, tmp_path / "short", HOW)
    assert outcome.status == "ok" and outcome.accumulate == 2 and calls[:5] == [1, 1, 1, 2, 2]
    assert "out of memory: the batch of 128 goes through in 2 parts" in capsys.readouterr().out
    assert outcome.metrics["test_loss"] == pytest.approx(expected.metrics["test_loss"], rel=1e-3)

    calls.clear()
    with pytest.raises(torch.OutOfMemoryError):  # BatchNorm's batch cannot be split
        train(make_run(**{**DIGITS, "model": "CNN-4"}), tmp_path, HOW)


def test_bf16_agrees_with_fp32(tmp_path):
    run = make_run(**{**DIGITS, "epochs": 8})
    full, _ = train(run, tmp_path / "fp32", HOW)
    half, model = train(run, tmp_path / "bf16", HOW._replace(precision="bf16"))
    assert (full.precision, half.precision) == ("fp32", "bf16") and half.metrics["test_loss"] != full.metrics["test_loss"]
    assert abs(full.metrics["test_top1"] - half.metrics["test_top1"]) < 4
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_precision_is_measured_on_a_copy(rich):
    run, _, _ = rich
    model = build_for(run)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert training.faster_precision(model, run, loaders.load_data(run), seconds=0.01) in ("fp32", "bf16")
    assert same(before, model.state_dict()) and all(p.grad is None for p in model.parameters())


# --- divergence -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [dict(epochs=60, lr=1e10), dict(steps=1, lr=1e38, momentum=0.0)])
def test_divergence_is_a_result_without_weights(tmp_path, fields):
    run = make_run(model="S-2/Wi-16", dataset="digits", optimizer="sgd", norm="none", **fields)
    outcome, model = train(run, tmp_path, HOW)
    assert outcome.status == "diverged" and model is None and outcome.metrics == {}
    assert outcome.step <= 100 and list(tmp_path.iterdir()) == []
    assert all(torch.isfinite(torch.tensor(list(point.values()))).all() for point in outcome.curve)


# --- repetition, stopping, killing ----------------------------------------------------------------------------------


def test_a_repeated_run_is_identical(rich, tmp_path):
    torch.rand(7)
    before = torch.get_rng_state()
    outcome, _ = train(rich[0], tmp_path, HOW)
    assert_same_run(outcome, tmp_path, rich)
    assert torch.equal(before, torch.get_rng_state())  # the caller's generator is left as it was


@pytest.mark.parametrize("stops", [(13,), (1, 6, 9)], ids=["once", "often"])
def test_a_stopped_run_goes_on_as_if_it_had_not(rich, tmp_path, stops):
    run, done = rich[0], 0
    for steps in stops:
        outcome, model = train(run, tmp_path, HOW, should_stop=stop_at(steps))
        done += steps
        assert (outcome.status, outcome.step, outcome.metrics, model) == ("paused", done, {}, None)
        assert [p.name for p in tmp_path.iterdir()] == [f"{run.key}.checkpoint"]
    outcome, _ = train(run, tmp_path, HOW)
    assert_same_run(outcome, tmp_path, rich)
    assert outcome.step == 30 and outcome.seconds > 0


@pytest.mark.parametrize("optimizer, lr", [("sgd", 0.05), ("adamw", 1e-3)])
@pytest.mark.parametrize("dataset, subset", [("shapes", 640)])
def test_other_optimisers_go_on_too_and_so_do_running_statistics(tmp_path, optimizer, lr, dataset, subset):
    run = make_run(
        model="CNN-4", dataset=dataset, subset=subset, epochs=2, optimizer=optimizer, lr=lr, augment="flip+crop+mixup"
    )
    expected, _ = train(run, tmp_path / "whole", HOW)
    train(run, tmp_path / "cut", HOW, should_stop=stop_at(7))
    outcome, _ = train(run, tmp_path / "cut", HOW)
    assert_same_run(outcome, tmp_path / "cut", (run, expected, tmp_path / "whole"))


def test_a_stop_at_the_last_step_is_the_end(rich, tmp_path):
    outcome, _ = train(rich[0], tmp_path, HOW, should_stop=stop_at(30))
    assert_same_run(outcome, tmp_path, rich)


def test_a_resumed_run_keeps_its_precision(tmp_path):
    run = make_run(**DIGITS)
    train(run, tmp_path, HOW._replace(precision="bf16"), should_stop=stop_at(4))
    outcome, _ = train(run, tmp_path, HOW)
    assert outcome.precision == "bf16"


KILLED = """
import sys, time
from pathlib import Path
from mlp_lib import train
from mlp_lib.runs import make_run

train.SAVE_SECONDS = 0.0
steps = iter(range(1, 1000))

def should_stop():
    if next(steps) == 17:
        print("ready", flush=True)
        time.sleep(60)

train.train(make_run(**eval(sys.argv[2])), Path(sys.argv[1]), train.How("cpu", "fp32", threads=1),
            should_stop=should_stop)
"""


def test_a_killed_run_goes_on_as_if_it_had_not(rich, tmp_path):
    run = rich[0]
    environment = os.environ | {"PYTHONPATH": str(Path(training.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED, str(tmp_path), repr(RICH)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    (tmp_path / f"{run.key}.checkpoint.123.part").write_bytes(b"half a checkpoint")
    steps = []
    outcome, _ = train(run, tmp_path, HOW, should_stop=lambda: steps.append(1))
    assert len(steps) < 20  # steps 1 to 16 were saved
    (tmp_path / f"{run.key}.checkpoint.123.part").unlink()
    assert_same_run(outcome, tmp_path, rich)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", "cut"])
def test_a_damaged_checkpoint_is_one_line(rich, tmp_path, content):
    run = rich[0]
    path = tmp_path / f"{run.key}.checkpoint"
    if content == "cut":
        train(run, tmp_path, HOW, should_stop=stop_at(2))
        content = path.read_bytes()[:-3000]
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read .*; delete it to start over") as caught:
        train(run, tmp_path, HOW)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert path.read_bytes() == content


def test_a_checkpoint_of_another_run_is_one_line(rich, tmp_path):
    run = rich[0]
    train(run, tmp_path, HOW, should_stop=stop_at(2))
    other, path = run.but(seed=1), tmp_path / f"{run.key}.checkpoint"
    path.rename(tmp_path / f"{other.key}.checkpoint")
    with pytest.raises(UserError, match=f"belongs to run {run.key}, not {other.key}"):
        train(other, tmp_path, HOW)
    torch.save(torch.zeros(3), path)
    with pytest.raises(UserError, match="belongs to run None"):
        train(run, tmp_path, HOW)


def test_checkpoints_run_no_code(tmp_path):
    run = make_run(**DIGITS)

    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "exploded"),))

    torch.save({"key": run.key, "model": Bomb()}, tmp_path / f"{run.key}.checkpoint")
    with pytest.raises(UserError, match="cannot be read"):
        train(run, tmp_path, HOW)
    assert not (tmp_path / "exploded").exists()


@pytest.fixture
def small_disk():
    """Files cannot grow beyond 20 kB: writing fails where a full disk would make it fail."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before)
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_one_line_and_loses_nothing(rich, tmp_path, small_disk, monkeypatch):
    run = rich[0]
    with pytest.raises(UserError, match="checkpoint: File too large; free some space") as caught:
        train(run, tmp_path, HOW, should_stop=stop_at(4))
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="cannot write .*safetensors: .*File too large"):
        train(run, tmp_path, HOW)
    assert list(tmp_path.iterdir()) == []
    small_disk()  # space again
    train(run, tmp_path, HOW, should_stop=stop_at(8))
    kept = (tmp_path / f"{run.key}.checkpoint").read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(training.os, "replace", full)
        with pytest.raises(UserError, match="No space left on device"):
            train(run, tmp_path, HOW)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [kept]
    outcome, _ = train(run, tmp_path, HOW)
    assert_same_run(outcome, tmp_path, rich)


# --- starting from another run --------------------------------------------------------------------------------------


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


# --- devices --------------------------------------------------------------------------------------------------------


def test_devices_are_taken_in_order_and_asked_for_by_name(monkeypatch):
    def there(cuda, mps):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    there(True, True)
    assert pick_device() == torch.device("cuda") and pick_device("cuda:1") == torch.device("cuda:1")
    assert pick_device("cpu") == torch.device("cpu")
    there(False, True)
    assert pick_device("auto") == torch.device("mps")
    with pytest.raises(UserError, match="device='cuda' is not available here; use one of: auto, mps, cpu"):
        pick_device("cuda")
    there(False, False)
    assert pick_device() == torch.device("cpu")
    for name in ("mps", "gpu", "cuda:0", ""):
        with pytest.raises(UserError, match="use one of: auto, cpu"):
            pick_device(name)


def test_progress_is_reported_up_to_the_end(tmp_path):
    seen = []
    train(make_run(**DIGITS), tmp_path, HOW, on_progress=lambda step, total: seen.append((step, total)))
    assert seen[-1] == (30, 30)
