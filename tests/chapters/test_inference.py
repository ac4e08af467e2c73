"""Inference: the rule on worked frames, what the file refuses, and the study that measures instead of training."""

import json
import sys
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mlp_lib import cli
from mlp_lib.chapters import claims, planning
from mlp_lib.chapters.inference import measurements, rules, study
from mlp_lib.chapters.notebook import open_chapter
from mlp_lib.chapters.rule import Shown
from mlp_lib.chapters.study import SIZES
from mlp_lib.errors import UserError
from mlp_lib.paths import REPOSITORY
from mlp_lib.records.store import Store

SMOKE = study.PRESETS["smoke"]
FLOPS = {"B-6/Wi-512": 4, "B-12/Wi-1024": 10, "ResNet152": 200, "ViT-B/4": 400, "Mixer-B/4": 300}
PARAMETERS = {"B-6/Wi-512": 50, "B-12/Wi-1024": 114, "ResNet152": 60, "ViT-B/4": 86, "Mixer-B/4": 59}


def made_up(rates: dict[str, float] | None = None, rounds: int = 3, preset=study.PRESETS["laptop"], **about):
    """A measurement in which round r is r + 1 times as slow as the first, for all alike, and one image alone takes an
    MLP twenty times as long as its rate at larger batches says."""
    rates = rates or {"B-6/Wi-512": 3000.0, "B-12/Wi-1024": 1000.0, "ResNet152": 20.0, "ViT-B/4": 10.0, "Mixer-B/4": 25}
    batches = {name: (1, 4, 16, 64) if name.startswith("B-") else (1, 4, 16) for name in rates}

    def seconds(name: str, batch: int, number: int) -> list[float]:
        alone = 20 if batch == 1 and name.startswith("B-") else 1
        return [(number + 1) * alone * batch / rates[name]] * (3 if batch == 1 else 2)

    return measurements.Measurement(
        **dict(
            settings=json.loads(json.dumps(asdict(preset))), hardware="a processor", device="cpu", cores=2, threads=1
        )
        | dict(
            precision="fp32",
            clock="wall time",
            versions={"torch": "2"},
            date="2026-01-01T00:00:00+00:00",
            load_before=0.1,
        )
        | dict(matmul_spread=1.1, others_cores=0.0, idle=True, total_seconds=9.0)
        | about,
        models=[
            dict(
                name=name,
                parameters=PARAMETERS[name],
                macs=FLOPS[name] // 2,
                flops=FLOPS[name],
                weight_bytes=4 * PARAMETERS[name],
                activation_bytes={batch: 100 * batch for batch in batches[name]},
            )
            for name in rates
        ],
        rounds=[
            dict(
                matmul_flops_per_second=1e11,
                read_bytes_per_second=1e10,
                seconds={name: {b: seconds(name, b, number) for b in batches[name]} for name in rates},
            )
            for number in range(rounds)
        ],
    )


def verdict_of(one) -> claims.Verdict:
    frame = measurements.frame(one)
    return claims.judge(14, frame, Shown(study.Results(one, frame)))


# --- the rule


def test_the_rule_on_a_worked_case():
    verdict = verdict_of(made_up())
    parts = verdict.parts
    assert verdict.verdict == "supported"
    # FLOPs of B-12/Wi-1024 are 10; rates are compared within a round, so that the slow rounds leave no width
    expected = {"ResNet152": (20, 50), "ViT": (40, 100), "Mixer": (30, 40)}
    for family, (flops, rate) in expected.items():
        assert parts[f"{family}, FLOPs"][:4] == (flops, (flops, flops), 1, 0.95)
        assert parts[f"{family}, throughput"].mean == pytest.approx(rate)
        assert parts[f"{family}, throughput"].interval == pytest.approx((rate, rate))
        assert parts[f"{family}, throughput"].n == 3
    assert verdict.scale.endswith("64 x 64 pixels, 1,000 classes, fp32, a processor, 1 thread, 3 rounds")
    # alone, an image takes the ResNet 1/20 s and the MLP 20/1000 s: 2.5 times, 7.5 below the bound; ViT 5, Mixer 2
    assert verdict.checks["ResNet152, latency of one image alone"].mean == pytest.approx(-7.5)
    # nearest in parameters to 60, 86 and 59 are 50, 114 and 50
    assert verdict.checks["ResNet152, FLOPs, the MLP nearest in parameters"].mean == pytest.approx(200 / 4 - 10)
    assert verdict.checks["ViT, throughput, the MLP nearest in parameters"].mean == pytest.approx(100 - 10)
    assert (verdict.held, verdict.checked) == (6, 9)


@pytest.mark.parametrize(
    ("resnet", "rounds", "word"),
    [(20.0, 3, "supported"), (200.0, 3, "not supported"), (20.0, 2, "inconclusive at this scale")],
)
def test_every_throughput_must_be_ten_times_in_three_rounds(resnet, rounds, word):
    rates = {"B-12/Wi-1024": 1000.0, "ResNet152": resnet, "ViT-B/4": 10.0, "Mixer-B/4": 25.0}
    verdict = verdict_of(made_up(rates, rounds))
    assert verdict.verdict == word
    assert word == "supported" or verdict.comparison.endswith("throughput")


def test_an_interval_that_holds_the_bound_decides_nothing():
    one = made_up()
    frame = measurements.frame(one)
    resnet = (frame["family"] == "ResNet152") & (frame["batch_size"] == 16)
    frame.loc[resnet, "images_per_second"] *= np.array([2.0, 5.0, 12.0])  # ratios of 25, 10 and 4.2
    assert claims.judge(14, frame).verdict == "inconclusive at this scale"
    assert claims.judge(14, frame).comparison == "ResNet152, throughput"


def test_fewer_flops_alone_do_not_suffice_and_too_many_refute(monkeypatch):
    monkeypatch.setitem(FLOPS, "Mixer-B/4", 90)
    assert verdict_of(made_up()).verdict == "not supported"


def test_throughput_is_compared_at_the_largest_batch_that_all_have():
    frame = measurements.frame(made_up())
    assert rules.common_batch(frame) == 16 and 64 in set(frame["batch_size"])
    assert rules.judged_mlp(frame) == "B-12/Wi-1024" and rules.nearest_mlp(frame, "ViT") == "B-12/Wi-1024"


def test_without_a_measurement_the_claim_is_not_tested(tmp_path):
    for frame in (measurements.frame(None), pd.DataFrame({"status": ["ok"], "family": ["CNN"]})):
        assert set(rules.cheaper(frame)) == set(rules.cheaper(measurements.frame(made_up())))
        assert all(part.n == 0 for part in rules.cheaper(frame).values())
    assert claims.judge_all(Store(tmp_path / "runs"))[13].verdict == claims.NOT_TESTED


def test_the_bound_of_time_is_the_longer_of_reading_and_computing():
    found = rules.bound_seconds(flops=200, weight_bytes=400, batch=np.array([1, 10, 100]), matmul=1000, read=100)
    assert found.tolist() == [4.0, 4.0, 20.0]  # they cross at 20 images


# --- the file


def test_what_is_kept_is_found_again_by_its_settings(tmp_path):
    path = tmp_path / "deep" / "inference.json"
    assert measurements.read(path) == []
    first, other = made_up(), made_up(preset=SMOKE, hardware="another")
    measurements.keep(path, first)
    measurements.keep(path, other)
    assert measurements.found(path, asdict(study.PRESETS["laptop"])) == first
    assert measurements.found(path, asdict(SMOKE)) == other
    assert measurements.found(path, asdict(replace(SMOKE, rounds=4))) is None
    newer = made_up(hardware="a newer one")
    measurements.keep(path, newer)
    assert measurements.read(path) == [other, newer] and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "Invalid JSON"),
        ('{"schema_version": 1, "measurements": [', "Invalid JSON"),
        ('{"loop_fp32": [1, 2]}', "schema_version"),
        ("[]", "object"),
        ('{"schema_version": 2, "measurements": []}', "schema_version"),
        ('{"schema_version": 1, "measurements": [{"hardware": "x"}]}', "measurements.0.settings"),
    ],
)
def test_a_broken_or_foreign_file_is_one_line_and_stays(tmp_path, text, says):
    path = tmp_path / "inference.json"
    path.write_text(text)
    for act in (lambda: measurements.read(path), lambda: measurements.keep(path, made_up())):
        with pytest.raises(UserError) as caught:
            act()
        said = str(caught.value)
        assert "\n" not in said and str(path) in said and says in said and "measure again" in said
    assert path.read_text() == text


def test_a_number_that_cannot_be_is_refused(tmp_path):
    path = tmp_path / "inference.json"
    measurements.keep(path, made_up())
    changed = json.loads(path.read_text())
    changed["measurements"][0]["models"][0]["flops"] = 0
    path.write_text(json.dumps(changed))
    with pytest.raises(UserError, match="models.0.flops"):
        measurements.read(path)


def test_a_folder_in_the_files_place_is_one_line(tmp_path):
    (tmp_path / "inference.json").mkdir()
    with pytest.raises(UserError, match="it is a folder"):
        measurements.read(tmp_path / "inference.json")


def test_a_row_has_the_rate_of_its_round_and_the_median_call():
    one = made_up()
    calls = {"ViT-B/4": {1: [0.1, 0.4, 0.2]}}
    frame = measurements.frame(one.model_copy(update={"rounds": [one.rounds[0].model_copy(update={"seconds": calls})]}))
    (row,) = frame.to_dict("records")
    assert row["images_per_second"] == pytest.approx(3 / 0.7) and row["latency"] == 0.2
    assert (row["family"], row["seed"], row["activation_bytes"]) == ("ViT", 0, 100)


# --- the study


@pytest.fixture
def instant(monkeypatch):
    """A measurement that takes no time; calls are (models, batches, device, threads)."""
    calls = []

    def measure(settings, batches, device, threads, say):
        calls.append((settings["models"], batches, device, threads))
        say("measured")
        return made_up(preset=SMOKE, hardware=f"number {len(calls)}")

    monkeypatch.setitem(sys.modules, "benchmarks.inference", SimpleNamespace(measure=measure))
    return calls


def test_presets_are_the_papers_networks_at_its_resolution():
    for name in ("laptop", "gpu"):
        preset = study.PRESETS[name]
        assert (preset.resolution, preset.classes) == (64, 1000) and preset.rounds >= 5 and 1 in preset.batch_sizes
        assert set(preset.models) == {*study.MLPS_OF_THE_PAPER, "ResNet152", "ViT-B/4", "Mixer-B/4"}
    assert set(study.PRESETS) <= set(SIZES)
    assert study.batches_of(study.PRESETS["laptop"], "B-6/Wi-512") == (1, 16, 64, 256)
    assert study.batches_of(study.PRESETS["laptop"], "ViT-B/4") == (1, 16)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (dict(models=["B-6/Wi-512", "VGG"]), "unknown model 'VGG'"),
        (dict(models=["ViT-64x2/5"]), "patches of 5 pixels"),
        (dict(rounds=0), "rounds=0: take 1 or more"),
        (dict(batch_sizes=[0, 4]), "batch_sizes=.0, 4.: take 1 or more"),
        (dict(batch_sizes=[4, 4]), "names a value twice"),
        (dict(models=[]), "models is empty"),
    ],
)
def test_what_cannot_be_measured_is_refused_before(changes, says):
    with pytest.raises(UserError, match=says):
        study.STUDY.resolve("smoke", **changes)


def test_the_plan_is_within_the_laptops_minutes():
    table, seconds = study.plan(study.PRESETS["laptop"])
    assert 60 < seconds < 25 * 60 and table["minutes"].sum() * 60 == pytest.approx(seconds)
    facts = table.set_index("model")
    assert facts.loc["B-12/Wi-1024", "multiply-adds"] == 114_270_208 and facts.loc["ResNet152", "FLOPs"] > 2.9e10


def test_the_committed_measurement_is_of_todays_preset_and_networks():
    results = study.collect(study.PRESETS["laptop"], REPOSITORY / "data" / measurements.FILE)
    assert results.sufficient, "python -m mlp_lib study rq1-inference --preset laptop"
    table, _ = study.plan(study.PRESETS["laptop"])
    known = {model.name: (model.parameters, model.macs, model.flops) for model in results.measurement.models}
    assert known == {row[0]: row[1:] for row in table.iloc[:, :4].itertuples(index=False, name=None)}


def run_cli(monkeypatch, capsys, *arguments) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["mlp_lib", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return (stopped.value.code or 0), *capsys.readouterr()


def test_the_command_plans_measures_and_measures_anew(instant, monkeypatch, capsys, tmp_path):
    command = ("study", "rq1-inference", "--preset", "smoke", "--out", tmp_path / "runs", "--json")
    code, out, _ = run_cli(monkeypatch, capsys, *command, "--dry-run")
    last = json.loads(out.splitlines()[-1])
    assert code == 0 and last["networks"] == 5 and not last["done"] and not instant and not list(tmp_path.iterdir())
    assert "not measured yet" in out and "ResNet152" in out
    code, out, _ = run_cli(monkeypatch, capsys, *command, "--threads", 1)
    assert code == 0 and json.loads(out.splitlines()[-1])["record"] == str(tmp_path / "inference.json")
    assert instant == [(SMOKE.models, {m: study.batches_of(SMOKE, m) for m in SMOKE.models}, "auto", 1)]
    assert "measured before" in run_cli(monkeypatch, capsys, *command, "--dry-run")[1]
    run_cli(monkeypatch, capsys, *command)
    (kept,) = measurements.read(tmp_path / "inference.json")
    assert kept.hardware == "number 2"


@pytest.mark.parametrize("option", [("--workers", 2), ("--time-budget", 9), ("--together", 2), ("--precision", "bf16")])
def test_options_of_trainings_are_refused(instant, monkeypatch, capsys, tmp_path, option):
    code, _, err = run_cli(monkeypatch, capsys, "study", "rq1-inference", "--out", tmp_path / "runs", *option)
    assert code == 2 and option[0] in err and "trains nothing" in err and len(err.splitlines()) == 1 and not instant


def test_a_foreign_file_is_refused_before_anything_is_measured(instant, monkeypatch, capsys, tmp_path):
    (tmp_path / "inference.json").write_text("{}")
    code, _, err = run_cli(
        monkeypatch, capsys, "study", "rq1-inference", "--out", tmp_path / "runs", "--preset", "smoke"
    )
    assert code == 2 and "holds no measurements" in err and len(err.splitlines()) == 1 and not instant


def test_the_notebook_measures_what_is_missing_only_if_it_may(instant, capsys, tmp_path):
    store = Store(tmp_path / "runs")
    chapter = open_chapter("rq1-inference", {"preset": "smoke", "train": False}, store)
    assert not chapter.results().complete and not instant
    assert "Not measured here" in (said := capsys.readouterr().out) and chapter.command in said
    chapter = open_chapter("rq1-inference", {"preset": "smoke", "train": True}, store)
    results = chapter.results()
    assert results.sufficient and len(instant) == 1 and len(results.frame)
    chapter.results()
    assert len(instant) == 1  # there now
    assert open_chapter("rq1-inference", {"preset": "auto"}, store).preset == "smoke"
    assert chapter.verdict(14, results).verdict == "supported" and planning.plan(study.STUDY, SMOKE, store).runs == []
    assert claims.judge_all(store)[13].verdict == "supported"


def test_auto_is_the_largest_that_was_measured(tmp_path):
    store = Store(tmp_path / "runs")
    assert planning.pick_preset(study.STUDY, "auto", store) == "smoke"
    measurements.keep(tmp_path / "inference.json", made_up())
    assert planning.pick_preset(study.STUDY, "auto", store) == "laptop"
    few = made_up(rounds=2, preset=study.PRESETS["gpu"])
    measurements.keep(tmp_path / "inference.json", few)
    assert planning.pick_preset(study.STUDY, "auto", store) == "laptop"  # two rounds give no verdict


def test_a_real_measurement_of_tiny_networks(tmp_path):
    preset = study.STUDY.resolve("smoke", models=["B-1/Wi-16", "ViT-32x1/8", "Mixer-32x1/8"], batch_sizes=[1, 2])
    study.measure(preset, tmp_path / "inference.json", "cpu", None, lambda text: None)
    results = study.collect(preset, tmp_path / "inference.json")
    one, frame = results.measurement, results.frame
    assert results.sufficient and (one.device, one.precision) == ("cpu", "fp32") and one.total_seconds > 0
    assert one.clock == ("processor time" if one.threads == 1 else "wall time")
    assert len(one.rounds) == 3 and all(turn.matmul_flops_per_second > 1e8 for turn in one.rounds)
    assert set(frame["model"]) == set(preset.models) and (frame["images_per_second"] > 0).all()
    assert sorted(set(frame.loc[frame["family"] == "B-MLP", "batch_size"])) == [1, 2, 8]
    assert all(len(turn.seconds["ViT-32x1/8"][1]) >= 3 for turn in one.rounds)
