"""The benchmark: that its numbers are what they say, not how large they are."""

import itertools
import json
import statistics
import sys
import time

import pytest
import torch

from mlp_lib import cli, datasets
from mlp_lib.book import readme
from mlp_lib.errors import UserError
from mlp_lib.models import build_for
from mlp_lib.paths import REPOSITORY
from mlp_lib.records.run import make_run
from mlp_lib.records.store import Store
from mlp_lib.training import loaders, optim
from mlp_lib.training import loop as train
from mlp_lib.training.how import How

sys.path.insert(0, str(REPOSITORY))  # benchmarks/ is beside the library, not in it
from benchmarks import machine, memory, others, ours, suite, timing  # noqa: E402

CPU = torch.device("cpu")
RUN = make_run(model="B-1/Wi-16", dataset="digits", epochs=10, batch_size=32, augment="flip+crop+mixup", lr=1e-3)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The suite at its tiny size: (results as returned, file, lines said)."""
    path, said = tmp_path_factory.mktemp("bench") / "deep" / "bench.json", []
    result, _ = suite.run("tiny", path, said.append)
    return result, path, said


# --- the file of results


def test_the_file_is_what_was_returned_and_nothing_is_left_beside_it(tiny):
    result, path, said = tiny
    assert json.loads(path.read_text()) == result and list(path.parent.iterdir()) == [path]
    assert said[-1] == f"results: {path}" and sum("/6 " in line for line in said) >= 6


def test_names_and_types(tiny):
    result = tiny[0]
    numbers = {
        "step_share",
        "bf16_over_fp32",
        "matmul_share_fp32",
        "peak_gb",
        "over_dataloader",
        "over_paper_loop",
        "auto_over_other",
        "load_before",
        "matmul_spread",
        "seconds",
    }
    texts = {"hardware", "device", "torch", "date", "model", "wide_model", "augment", "auto_precision", "peak_data"}
    assert all(isinstance(result[name], float) and result[name] >= 0 for name in numbers)
    assert all(isinstance(result[name], str) and result[name] for name in texts)
    assert all(isinstance(result[name], int) for name in ("threads", "cores", "batch_size", "rounds", "resolution"))
    assert all(isinstance(result[name], bool) for name in ("auto_is_faster", "idle", "bf16_units"))
    assert isinstance(result["matmul_share_bf16"], float) == result["bf16_units"]


def test_ratios_are_those_of_the_rates_beside_them(tiny):
    result = tiny[0]

    def ratio(above: str, below: str) -> float:
        return result[above] / result[below]

    auto = result["auto_precision"]
    loop, bare = f"loop_{auto}_images_per_second", f"bare_{auto}_images_per_second"
    assert result["step_share"] == result[f"step_share_{auto}"] == ratio(loop, bare)
    assert result["bf16_over_fp32"] == ratio("loop_bf16_images_per_second", "loop_fp32_images_per_second")
    assert result["over_dataloader"] == ratio("ours_images_per_second", "dataloader_images_per_second")
    assert result["over_paper_loop"] == ratio("ours_images_per_second", "paper_loop_images_per_second")
    assert result["store_ratio"] == ratio("store_seconds_beside_them", "store_seconds_beside_none")
    assert result["matmul_share_fp32"] == ratio("step_flops_fp32", "matmul_flops_fp32")
    assert 0.1 < result["peak_gb"] < 10
    for one in result["auto_tried"]:
        other = {"fp32": "bf16", "bf16": "fp32"}[one["choice"]]
        assert one["over_other"] == one[one["choice"]] / one[other]
    assert result["auto_over_other"] == min(one["over_other"] for one in result["auto_tried"])
    assert result["auto_is_faster"] == (result["auto_over_other"] >= result["thresholds"]["auto_over_other"])


def test_rates_are_medians_of_the_rounds(tiny):
    result, rounds = tiny[0], tiny[0]["rates"]
    arms = {name: values for name, values in rounds.items() if not name.startswith("flops_")}
    assert set(arms) == {"loop_fp32", "bare_fp32", "loop_bf16", "bare_bf16", "ours", "dataloader", "paper_loop"}
    for name, values in arms.items():
        assert len(values) == result["rounds"] and min(values) > 0
        assert result[f"{name}_images_per_second"] == statistics.median(values)
    by_shape = {name: statistics.median(values) for name, values in rounds["flops_fp32"].items()}
    assert result["step_flops_fp32"] == by_shape.pop("step")
    assert result["matmul_flops_fp32"] == max(by_shape.values()) == by_shape[result["matmul_shape_fp32"]]


def test_promises_are_judged_each_by_its_own_side():
    kept = {
        "step_share": 0.85,
        "auto_over_other": 0.97,
        "matmul_share_fp32": 0.8,
        "matmul_share_bf16": 0.6,
        "peak_gb": 1.5,
        "store_ratio": 1.1,
    }
    assert all(met for _, met, _ in suite.verdicts(kept)) and len(suite.verdicts(kept)) == 6
    for name, value in kept.items():
        missed = {**kept, name: value + (0.01 if name in suite.AT_MOST else -0.01)}
        assert [n for n, met, line in suite.verdicts(missed) if not met and "MISSED" in line] == [name]
    assert len(suite.verdicts({**kept, "matmul_share_bf16": None})) == 5


def test_a_wrong_size_and_a_place_that_cannot_be_written_stop_it_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(suite, "measure", lambda *arguments: pytest.fail("measured"))
    with pytest.raises(UserError, match="no size 'huge'.*full, tiny"):
        suite.run("huge", tmp_path / "bench.json")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write .*--out"):
        suite.run("tiny", tmp_path / "file" / "bench.json")


@pytest.mark.parametrize("kept, arguments, code", [(False, [], 0), (False, ["--check"], 1), (True, ["--check"], 0)])
def test_only_check_makes_a_missed_promise_an_error(tmp_path, monkeypatch, kept, arguments, code):
    asked = []
    monkeypatch.setattr(suite, "run", lambda size, out, say: asked.append((size, out)) or ({}, kept))
    monkeypatch.setattr(sys, "argv", ["mlp_lib", "bench", "--out", str(tmp_path / "b.json"), *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert (stopped.value.code or 0) == code and asked == [("full", tmp_path / "b.json")]


def test_the_readmes_table_quotes_the_file(tiny, tmp_path):
    result = tiny[0]
    (tmp_path / "bench.json").write_text(json.dumps(result))
    table = readme.speed(Store(tmp_path / "runs"))
    quoted = (
        f"{result['step_share']:.0%}",
        f"{result['peak_gb']:.2f} GB",
        f"{result['over_dataloader']:.1f} times",
        result["hardware"],
        result["date"][:10],
    )
    assert all(text in table for text in quoted)
    (tmp_path / "bench.json").write_text(json.dumps({**result, "matmul_share_bf16": None}))
    assert "no such units here" in readme.speed(Store(tmp_path / "runs"))
    assert readme.speed(Store(tmp_path / "elsewhere" / "runs")) == "Not measured yet."


# --- how it is measured


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the work moves: clock(seconds) does some."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


def test_a_round_is_as_many_calls_as_fit_and_its_rate_is_units_over_time(clock):
    calls = []
    round_ = timing.steady(lambda: calls.append(clock(0.25)), units=8, device=CPU, seconds=1.0)
    calls.clear()
    assert round_() == pytest.approx(32) and len(calls) == 4
    assert timing.steady(lambda: clock(3.0), units=6, device=CPU, seconds=1.0)() == pytest.approx(2)


def test_arms_take_turns():
    order = itertools.count()
    rates = timing.take_turns({"a": lambda: next(order), "b": lambda: next(order)}, rounds=3)
    assert rates == {"a": [0, 2, 4], "b": [1, 3, 5]} and timing.medians(rates) == {"a": 2, "b": 3}


def test_the_loop_that_is_timed_trains_as_train_does(tmp_path, monkeypatch):
    run = RUN.but(epochs=2, augment="none")
    data = loaders.load_data(run)
    outcome, trained = train.train(run, tmp_path, How("cpu", "fp32", threads=1))
    loops, real = [], train.Loop
    monkeypatch.setattr(train, "Loop", lambda *arguments: loops.append(real(*arguments)) or loops[-1])
    step = ours.loop_step(run, data, "fp32")
    for _ in range(outcome.step):
        step()
    for timed, expected in zip(loops[0].model.parameters(), trained.parameters(), strict=True):
        assert torch.equal(timed, expected)


@pytest.mark.parametrize("optimizer", [None, lambda p: optim.make_optimizer(RUN, p)])
def test_the_bare_step_is_the_loops_without_a_loader(optimizer):
    run = RUN.but(label_smoothing=0.0)  # else it would be applied twice: batches have it already
    data = ours.random_data(run, CPU)
    batches = list(itertools.islice(loaders.epoch_batches(run, data, 0), 4))
    step = ours.plain_step(run, "fp32", CPU, optimizer)
    loop = train.Loop(run, build_for(run).train(), data, How(), "fp32", None)
    expected = 0.0
    for batch in batches:
        loss, logits = step(batch.images, batch.targets)
        loop.take_step(batch)
        expected += loss.item()
        assert logits.shape == (32, 10)
        assert loop.running.item() == pytest.approx(expected, rel=1e-5)


def test_matrix_products_have_the_shapes_of_the_layers():
    wide = make_run(model="B-1/Wi-64", dataset="shapes", epochs=1, batch_size=16)
    names = set(ours.matrix_products(wide, "bf16", CPU, seconds=0.0))
    forward = {"16x3072x64", "16x64x256", "16x256x64"}
    assert names == forward | {"64x16x3072", "256x16x64", "64x16x256", "16x16x16", "32x32x32"}


@pytest.mark.parametrize("as_pil", [True, False])
@pytest.mark.parametrize("dataset", ["digits", "shapes"])
def test_the_alternatives_examples_are_the_same_images(dataset, as_pil):
    run = RUN.but(dataset=dataset, subset=20, batch_size=20, crop_scale=1.0, crop_ratio=1.0)
    data = loaders.load_data(run)  # with such crops only the flip is left to chance
    samples, clean = others.Samples(run, data, as_pil), data.normalise(data.train.images)
    for index in range(20):
        image, label = samples[index]
        assert label == data.train.labels[index]
        assert any(torch.allclose(image, other, atol=1e-4) for other in (clean[index], clean[index].flip(-1)))
    images, targets = others.Mixed(run, data)([samples[i] for i in range(20)])
    assert images.shape == clean.shape and targets.shape == (20, 10)
    torch.testing.assert_close(targets.sum(1), torch.ones(20))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loaders_round_is_from_the_middle_of_an_epoch(workers):
    data, seen = ours.random_data(RUN, CPU), []
    setting = others.Setting(as_pil=False, workers=workers)
    round_ = others.loader_round(RUN, data, setting, lambda *batch: seen.append(batch), calls=3)
    for number in (1, 2):
        assert round_() > 0 and len(seen) == number * (setting.ahead + 3)
    assert {(images.shape, targets.shape) for images, targets in seen} == {((32, 1, 8, 8), (32, 10))}


def test_no_more_workers_than_shared_memory_has_room_for(tmp_path, monkeypatch):
    data = ours.random_data(RUN, CPU)
    for free, expected in ((10**12, [0, 4, 8]), (6 * 4 * 32 * 64 * 5, [0, 4]), (10, [0])):
        monkeypatch.setattr(others.shutil, "disk_usage", lambda path, free=free: type("U", (), {"free": free}))
        assert others.worker_candidates(RUN, data, cores=8, shared=tmp_path) == expected
    assert others.worker_candidates(RUN, data, cores=1, shared=tmp_path / "none") == [0, 1]


def test_the_papers_loop_reads_loss_and_accuracy_at_every_step():
    data = ours.random_data(RUN, CPU)
    images, targets = next(loaders.epoch_batches(RUN, data, 0))
    step = others.paper_step(RUN, CPU)
    losses, accuracies = zip(*(step(images, targets) for _ in range(60)), strict=True)
    assert losses[-1] < losses[0] and accuracies[-1] > accuracies[0]
    assert all(isinstance(value, float) for value in losses + accuracies)


# --- the machine and its memory


def test_units_for_bf16_by_flag_or_by_rate(tmp_path):
    for flags, expected in (("fpu avx512f avx512_bf16 amx_bf16", True), ("fpu avx2", False), ("asimd bf16", True)):
        (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags : {flags}\n")
        assert machine.has_bf16_units(CPU, 3.0, tmp_path / "cpuinfo") is expected
    for ratio in (1.2, 2.0):
        assert machine.has_bf16_units(CPU, ratio, tmp_path / "none") is (ratio > 1.5)
        assert machine.has_bf16_units(torch.device("cuda"), ratio, tmp_path / "cpuinfo") is (ratio > 1.5)


def test_the_peak_is_this_process_own(tmp_path):
    (tmp_path / "status").write_text("Name:\tx\nVmPeak:\t9000000 kB\nVmHWM:\t 1500000 kB\nVmRSS:\t 100 kB\n")
    assert memory.resident_peak(tmp_path / "status") == pytest.approx(1.536)
    before = memory.resident_peak()
    block = torch.ones(25_000_000)  # 0.1 GB
    assert memory.resident_peak() >= before and len(block) == 25_000_000


def test_a_set_that_is_not_at_hand_has_a_stand_in_of_its_size(tmp_path, monkeypatch):
    memory._write_stand_in(tmp_path / "standin", "digits")
    monkeypatch.setenv("MLP_LIB_DATA", str(tmp_path))
    images, real = datasets.load("npz:standin"), datasets.load("digits")
    assert images.train_images.shape == real.train_images.shape and images.test_images.shape == real.test_images.shape
    assert images.facts.num_classes == 10

    asked = []

    class Done:
        stdout, stderr = "1.25\n", ""

        def __init__(self, code):
            self.returncode = code

    def start(fields, precision, device):
        asked.append(fields["dataset"])
        return Done(memory.MISSING if fields["dataset"] == "digits" else 0)

    monkeypatch.setattr(memory, "_start", start)
    found = memory.peak({"dataset": "digits"}, "fp32", "cpu")
    assert found.gb == 1.25 and "not at hand" in found.data and asked == ["digits", "npz:standin"]
    monkeypatch.setattr(memory, "_start", lambda *arguments: Done(1))
    with pytest.raises(UserError, match="failed"):
        memory.peak({"dataset": "digits"}, "fp32", "cpu")
