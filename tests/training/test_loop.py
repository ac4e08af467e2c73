"""What the training loop computes, against a plain loop and scikit-learn."""

import pytest
import torch
import torch.nn.functional as F
from helpers import DIGITS, HOW, RICH, same, weights_of
from sklearn.metrics import accuracy_score, log_loss, top_k_accuracy_score

from mlp_lib.errors import UserError
from mlp_lib.models import build, build_for
from mlp_lib.records.run import make_run
from mlp_lib.training import loaders, timing
from mlp_lib.training import loop as training
from mlp_lib.training.evaluate import evaluate, glimpse
from mlp_lib.training.how import pick_device
from mlp_lib.training.loop import declared_steps, train
from mlp_lib.training.step import batch_gradient
from mlp_lib.training.timing import faster_precision


@pytest.fixture(scope="module")
def rich(tmp_path_factory):
    """RICH trained without interruption: (run, outcome, folder)."""
    folder, run = tmp_path_factory.mktemp("rich"), make_run(**RICH)
    outcome, model = train(run, folder, HOW)
    assert outcome.status == "ok" and not model.training
    return run, outcome, folder


def test_loop_against_a_plain_one(tmp_path):
    """Label smoothing, decay, momentum, clipping and the schedule, by torch's own means."""
    run = make_run(
        model="B-1/Wi-16",
        dataset="digits",
        epochs=2,
        optimizer="sgd",
        lr=0.1,
        weight_decay=1e-3,
        schedule="linear",
        clip=0.5,
        seed=4,
    )
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
    pairs = zip(trained.parameters(), build_for(run).parameters(), strict=True)
    moved = torch.cat([(a - b).flatten() for a, b in pairs])
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
    run, real, calls = make_run(**{**DIGITS, "optimizer": "sgd", "lr": 0.05}), batch_gradient, []
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
    assert (full.precision, half.precision) == ("fp32", "bf16")
    assert full.metrics["test_loss"] != half.metrics["test_loss"]
    assert full.metrics["test_top1"] > 85 and abs(full.metrics["test_top1"] - half.metrics["test_top1"]) < 4
    assert all(p.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("slower", ["fp32", "bf16"])
def test_precision_is_measured_on_a_copy_and_not_for_short_runs(rich, monkeypatch, slower):
    run, real, seen = rich[0].but(epochs=100_000), batch_gradient, {}

    def noted(model, batch, parts, precision):
        seen[precision] = seen.get(precision, 0) + 1
        return real(model, batch, parts, precision)

    def timed(work, device, limit):  # no clock: a busy machine must not decide a test
        before = dict(seen)
        work()
        return 0.002 if seen.get(slower, 0) > before.get(slower, 0) else 0.001

    monkeypatch.setattr(timing, "batch_gradient", noted)
    monkeypatch.setattr(timing, "seconds_of", timed)
    monkeypatch.setattr(timing, "MEASURED", {})
    model, data = build_for(run), loaders.load_data(run)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert {faster_precision(model, run, data, seconds=0.05), slower} == {"fp32", "bf16"}
    assert {*seen} == {"fp32", "bf16"}
    assert same(before, model.state_dict()) and all(p.grad is None for p in model.parameters())
    seen.clear()
    short = run.but(epochs=None, steps=9)
    assert faster_precision(model, short, data) == "fp32" and seen == {}  # a step of this shape has been timed
    timing.MEASURED.clear()
    assert faster_precision(model, short, data) == "fp32" and {*seen} == {"fp32"}


def test_precision_is_measured_once_for_a_shape(rich, monkeypatch):
    asked, run = [], rich[0].but(epochs=100_000)
    monkeypatch.setattr(timing, "seconds_of", lambda work, device, limit: asked.append(limit) or 1.0)
    monkeypatch.setattr(timing, "MEASURED", {})

    def chosen(run, threads=1):
        before = len(asked)
        torch.set_num_threads(threads)
        try:
            precision = faster_precision(build_for(run), run, loaders.load_data(run))
        finally:
            torch.set_num_threads(1)
        return precision, len(asked) - before

    assert chosen(run) == ("fp32", 3)
    for same_shape in (run, run.but(seed=5), run.but(lr=0.5), run.but(epochs=7)):
        assert chosen(same_shape) == ("fp32", 0)
    for other in (run.but(model="B-1/Wi-32"), run.but(batch_size=64), run.but(resolution=10), run.but(norm="none")):
        assert chosen(other) == ("fp32", 3) and chosen(other) == ("fp32", 0)
    assert chosen(run, threads=2) == ("fp32", 3)
    known = dict(timing.MEASURED)  # what a sweep hands to its next worker
    monkeypatch.setattr(timing, "MEASURED", known)
    assert chosen(run) == ("fp32", 0)


# --- divergence -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [dict(epochs=60, lr=1e10), dict(steps=1, lr=1e38, momentum=0.0)])
def test_divergence_is_a_result_without_weights(tmp_path, fields):
    run = make_run(model="S-2/Wi-16", dataset="digits", optimizer="sgd", norm="none", **fields)
    outcome, model = train(run, tmp_path, HOW)
    assert outcome.status == "diverged" and model is None and outcome.metrics == {}
    assert outcome.step <= 100 and list(tmp_path.iterdir()) == []
    assert all(torch.isfinite(torch.tensor(list(point.values()))).all() for point in outcome.curve)


# --- devices --------------------------------------------------------------------------------------------------------


def test_devices_are_taken_in_order_and_asked_for_by_name(monkeypatch):
    def there(cuda, mps):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2 if cuda else 0)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    there(True, True)
    assert pick_device() == torch.device("cuda") and pick_device("cuda:1") == torch.device("cuda:1")
    assert pick_device("cpu") == torch.device("cpu")
    for name in ("cuda:2", "cuda:", "cuda:-1", "cuda:x", "cuda:0:1", "cuda:²", "mps:1", "cpu:x", "cpu:1", ":0", "CPU"):
        with pytest.raises(UserError, match="use one of: auto, cuda:0 to cuda:1, mps, cpu"):
            pick_device(name)
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


def test_training_accuracy_is_of_every_class_where_images_lie_class_by_class():
    images = torch.arange(1000, dtype=torch.uint8).view(-1, 1, 1, 1)
    ordered = loaders.Split(images, torch.arange(10).repeat_interleave(100))
    assert glimpse(ordered, 50).labels.bincount().tolist() == [5] * 10
    mixed = loaders.Split(images, torch.arange(10).repeat(100))
    assert torch.equal(glimpse(mixed, 50).images, images[:50])  # as committed records have it
    assert len(glimpse(ordered, 5000).labels) == 1000
