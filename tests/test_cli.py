"""The command line: one line for a mistake, 75 for a pause, one JSON object last when it is asked for."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import record_of

from mlp_lib import cli
from mlp_lib.chapters.planning import plan
from mlp_lib.chapters.registry import STUDIES
from mlp_lib.paths import REPOSITORY
from mlp_lib.records.run import make_run
from mlp_lib.records.store import Store
from mlp_lib.sweeps import costs

RUN = make_run(model="B-1/Wi-16", dataset="digits", epochs=6, lr=1e-3)
TRAIN = ("train", "--model", "B_1-Wi_16", "--dataset", "digits", "--epochs", "6", "--lr", "1e-3")
HERE = ("--device", "cpu", "--precision", "fp32")


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Run a command line in this process: (exit code, stdout, stderr). Records go to tmp_path unless it says other."""
    monkeypatch.setenv("MLP_LIB_RUNS", str(tmp_path / "runs"))

    def run(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mlp_lib", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        out, err = capsys.readouterr()
        return stopped.value.code or 0, out, err

    return run


def last(out: str) -> dict:
    return json.loads(out.splitlines()[-1])


# --- train ----------------------------------------------------------------------------------------------------------


def test_train_from_end_to_end(command, tmp_path):
    code, out, err = command(*TRAIN, *HERE, "--threads", 1, "--json", "--measure", "first_layer")
    result = last(out)
    assert code == 0 and err == "" and set(result) == {"status", "key", "record", "metrics"}
    assert (result["status"], result["key"]) == ("ok", RUN.key)
    record = Store(tmp_path / "runs").get(RUN)
    assert Path(result["record"]) == tmp_path / "runs" / record.filename and Path(result["record"]).exists()
    assert result["metrics"] == record.metrics and record.metrics["test_top1"] > 60
    assert f"test {record.metrics['test_top1']:.2f}%" in out and "utilisation" in out
    assert (record.threads, record.precision) == (1, "fp32") and "first_layer" in record.measures

    code, again, _ = command(*TRAIN, *HERE, "--json")
    assert code == 0 and last(again) == result and "has a record already" in again and "images/s" not in again
    for option, value in (("--device", "gpx"), ("--precision", "fp8"), ("--measure", "sharpnes")):
        code, _, err = command(*TRAIN, option, value)  # refused, though the record makes it idle
        assert code == 2 and value in err and err.count("\n") == 1
    assert len(list(Store(tmp_path / "runs"))) == 1
    code, more, _ = command(*TRAIN, *HERE, "--retrain", "--json", "--threads", 1)
    assert last(more)["metrics"] == result["metrics"]
    assert len(Store(tmp_path / "runs").replicates(RUN)) == 2


def test_a_recorded_run_is_repeated_by_the_first_digits_of_its_key(command, tmp_path):
    store, run = Store(tmp_path / "runs"), RUN.but(epochs=1)
    store.add(record_of(run, metrics={"test_top1": 12.34, "test_loss": 1.0}))
    code, out, _ = command("train", "--key", run.key[:7], "--out", tmp_path / "again", *HERE, "--json")
    assert code == 0 and last(out)["key"] == run.key
    assert Store(tmp_path / "again").get(run).metrics == last(out)["metrics"]
    assert "what is recorded of this run:\naccuracy: test 12.34%" in out and len(store.replicates(run)) == 1
    for arguments, said in (
        (("--key", "ffff"), "no record of a run whose key begins with ffff"),
        (("--key", run.key, "--batch-size", "8"), "leave out --batch-size"),
        (("--key", " "), "--key is empty"),
    ):
        code, _, err = command("train", *arguments)
        assert code == 2 and said in err


def test_without_chromium_or_a_built_book_pdf_is_one_line(command, tmp_path, monkeypatch):
    code, _, err = command("pdf", "--html", tmp_path)
    assert code == 2 and re.fullmatch(r"error: (there is no .*book.preface.html: build.*|Chromium is not.*)\n", err)
    monkeypatch.setattr("shutil.which", lambda name: None)
    code, _, err = command("pdf", "--html", tmp_path)
    assert code == 2 and err.startswith("error: Chromium is not installed") and err.count("\n") == 1


def test_every_field_of_a_run_is_an_option(command, tmp_path):
    parent = {"model": "S-1/Wi-8", "dataset": "digits", "steps": 1}
    code, _, err = command(
        "train",
        "--model",
        "S-1/Wi-8",
        "--activation",
        "gelu",
        "--norm",
        "none",
        "--norm-position",
        "post",
        "--skip",
        "true",
        "--bottleneck",
        "false",
        "--block-form",
        "code",
        "--dropout",
        "0.1",
        "--dataset",
        "digits",
        "--subset",
        "200",
        "--split",
        "all",
        "--resolution",
        "10",
        "--permute-seed",
        "1",
        "--augment",
        "crop+pad+mixup",
        "--crop-scale",
        "0.5",
        "--crop-ratio",
        "1.2",
        "--pad",
        "1",
        "--mixup-alpha",
        "0.3",
        "--optimizer",
        "sgd",
        "--lr",
        "0.1",
        "--weight-decay",
        "1e-3",
        "--momentum",
        "0.8",
        "--schedule",
        "linear",
        "--warmup-steps",
        "1",
        "--clip",
        "1",
        "--label-smoothing",
        "0.1",
        "--batch-size",
        "50",
        "--steps",
        "2",
        "--seed",
        "3",
        *HERE,
        "--out",
        tmp_path / "elsewhere",
    )
    assert (code, err) == (0, "")
    (record,) = Store(tmp_path / "elsewhere")
    assert record.run == make_run(
        model="S-1/Wi-8",
        activation="gelu",
        norm="none",
        norm_position="post",
        skip=True,
        bottleneck=False,
        block_form="code",
        dropout=0.1,
        dataset="digits",
        subset=200,
        split="all",
        resolution=10,
        permute_seed=1,
        augment="crop+pad+mixup",
        crop_scale=0.5,
        crop_ratio=1.2,
        pad=1,
        mixup_alpha=0.3,
        optimizer="sgd",
        lr=0.1,
        weight_decay=1e-3,
        momentum=0.8,
        schedule="linear",
        warmup_steps=1,
        clip=1,
        label_smoothing=0.1,
        batch_size=50,
        steps=2,
        seed=3,
    )
    assert not (tmp_path / "runs").exists()
    code, _, err = command(
        "train",
        "--model",
        "S-1/Wi-8",
        "--dataset",
        "digits",
        "--steps",
        1,
        "--init",
        json.dumps({"run": parent}),
        *HERE,
    )
    assert code == 2 and f"weights of run {make_run(**parent).key} are not at hand" in err


@pytest.mark.parametrize(
    "arguments, says",
    [
        (("--modle", "B-1/Wi-16"), "No such option: --modle"),
        (("--model",), "requires an argument"),
        (("--model", "B-1/Wi-16", "--dataset", "digits"), "give --epochs or --steps"),
        (("--dataset", "digits", "--epochs", 1), "model is missing"),
        (("--model", "VGG", "--dataset", "digits", "--epochs", 1), "unknown model 'VGG'"),
        (("--model", "B-1/Wi-16", "--dataset", "mnist", "--epochs", 1), "'mnist'"),
        (("--model", "B-1/Wi-16", "--dataset", "cifar10", "--epochs", 1), "CIFAR-10 is not under .*fetch cifar10"),
        (("--model", "B-1/Wi-16", "--dataset", "digits", "--epochs", "two"), "epochs='two'"),
        (("--model", "B-1/Wi-16", "--dataset", "digits", "--epochs", 1, "--lr", 0), "lr='0'.*greater than 0"),
        (("--model", "B-1/Wi-16", "--dataset", "digits", "--epochs", 1, "--device", "tpu"), "device='tpu'"),
        (("--model", "B-1/Wi-16", "--dataset", "digits", "--epochs", 1, "--precision", "fp8"), "precision='fp8'"),
        (("--model", "B-1/Wi-16", "--dataset", "digits", "--epochs", 1, "--threads", 0), "--threads"),
        (("--model", "B-1/Wi-16", "--dataset", "digits", "--epochs", 1, "--measure", "x"), "unknown measure 'x'"),
        (("--model", "CNN-4", "--dataset", "digits", "--epochs", 1, "--measure", "first_layer"), "CNN-4 starts with a"),
        (("--model", "B-1/Wi-16", "--dataset", "digits", "--epochs", 1, "--init", "{"), "init is not JSON"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2_and_writes_nothing(command, monkeypatch, tmp_path, arguments, says):
    monkeypatch.setenv("MLP_LIB_DATA", str(tmp_path / "empty"))
    code, _, err = command("train", *arguments)

    assert code == 2 and err.startswith("error: ") and err.count("\n") == 1 and re.search(says, err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("trian",),
        ("study", "rq1", "--preset", "large"),
        ("study", "rq9"),
        ("study", "rq1", "--precision", "fp8"),
        ("merge", "nowhere"),
    ],
)
def test_mistakes_elsewhere_are_one_line_too(command, tmp_path, arguments):
    code, _, err = command(*arguments)
    assert code == 2 and err.startswith("error: ") and err.count("\n") == 1 and list(tmp_path.iterdir()) == []


def test_help_names_every_command_and_without_arguments_it_is_shown(command):
    code, out, _ = command("--help")
    assert code == 0 and all(name in out for name in ("train", "study", "merge", "fetch", "book"))
    code, out, _ = command("study", "--help")
    assert code == 0 and all(name in " ".join(re.sub(r"[│|]", " ", out).split()) for name in STUDIES)
    code, out, err = command()
    assert code == 2 and "train" in out + err and "error:" not in err


def test_damaged_records_and_checkpoints_are_one_line(command, tmp_path):
    command(*TRAIN, *HERE, "--time-budget", 0)
    checkpoint = tmp_path / "runs" / "weights" / f"{RUN.key}.checkpoint"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    code, _, err = command(*TRAIN, *HERE)
    assert code == 2 and f"checkpoint {checkpoint} cannot be read" in err and err.count("\n") == 1
    path = Store(tmp_path / "runs").add(record_of(RUN))
    path.write_text("{")
    code, _, err = command(*TRAIN, *HERE)
    assert code == 2 and f"record {path} is not valid" in err and err.count("\n") == 1


def test_a_time_budget_pauses_and_the_same_command_completes(command, tmp_path):
    _, out, _ = command(*TRAIN, *HERE, "--threads", 1, "--json", "--out", tmp_path / "whole")
    expected = last(out)["metrics"]
    for step in (1, 2):
        code, out, err = command(*TRAIN, *HERE, "--threads", 1, "--json", "--time-budget", 0)
        assert (code, err) == (75, "") and f"stopped at step {step} of 60; the same command goes on" in out
        assert last(out) == {"status": "paused", "key": RUN.key, "record": None, "metrics": {}}
        assert not list(Store(tmp_path / "runs"))
    code, out, _ = command(*TRAIN, *HERE, "--threads", 1, "--json")
    assert code == 0 and last(out)["metrics"] == expected


def test_ctrl_c_pauses_and_the_same_command_completes(command, tmp_path):
    _, out, _ = command(*TRAIN, *HERE, "--threads", 1, "--json", "--out", tmp_path / "whole")
    expected = last(out)["metrics"]
    store = Store(tmp_path / "runs")
    arguments = [*TRAIN, *HERE, "--threads", "1", "--json", "--out", str(store.folder)]
    root = str(REPOSITORY)
    with subprocess.Popen(
        [sys.executable, "-m", "mlp_lib", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
    ) as process:
        while process.poll() is None and not (store.weights / f"{RUN.key}.lock").exists():
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert last(out)["status"] == "paused" and err == ""
    assert (store.weights / f"{RUN.key}.checkpoint").exists() and not list(store)
    code, out, _ = command(*arguments)
    assert code == 0 and last(out)["metrics"] == expected


def test_divergence_is_a_recorded_result_with_advice(command, tmp_path):
    hot = (
        "train",
        "--model",
        "S-1/Wi-8",
        "--norm",
        "none",
        "--dataset",
        "digits",
        "--steps",
        300,
        "--optimizer",
        "sgd",
        "--lr",
        1e10,
        *HERE,
        "--json",
    )
    code, out, err = command(*hot)
    assert code == 0 and err == "" and "diverged" in out and "smaller --lr" in out
    assert last(out)["status"] == "diverged" and last(out)["metrics"] == {}
    code, out, _ = command(*hot)
    assert "has a record already" in out and len(list(Store(tmp_path / "runs"))) == 1


def test_measures_can_be_asked_for_later(command, tmp_path):
    command(*TRAIN, *HERE)
    code, out, _ = command(*TRAIN, *HERE, "--measure", "first_layer", "--json")
    (record,) = Store(tmp_path / "runs")
    assert code == 0 and "first_layer" in record.measures and last(out)["record"].endswith(record.filename)
    (tmp_path / "runs" / "weights" / f"{RUN.key}.safetensors").unlink()
    path = next((tmp_path / "runs").glob("*.json"))
    path.unlink()
    Store(tmp_path / "runs").add(record.model_copy(update={"measures": {}}))
    code, out, _ = command(*TRAIN, *HERE, "--measure", "first_layer")
    assert code == 0 and "weights are not at hand, so nothing more was measured; with --retrain it is" in out


def test_a_dry_run_counts_recorded_runs_that_lack_a_measure_and_the_study_does_not_pass_them_over(
    command, monkeypatch, tmp_path
):
    monkeypatch.setattr(costs, "_step_seconds", lambda run, how: 0.1)
    study = ("study", "rq2-augmentation", "--preset", "smoke", *HERE, "--json")
    module, store = STUDIES["rq2-augmentation"], Store(tmp_path / "runs")
    runs = plan(module, module.resolve("smoke"), store).runs
    for run in runs:
        store.add(record_of(run, measures={"translated": {}}))
    mlps = sum(run.model[0] in "SB" for run in runs)  # of which the study asks for their first layer
    code, out, _ = command(*study, "--dry-run")
    assert code == 0 and (last(out)["runs"], last(out)["done"]) == (len(runs), len(runs) - mlps)
    assert last(out)["minutes"] > 0 and f"{mlps} of {len(runs)} runs to train" in out
    assert f"{mlps} of the runs to train are recorded, but lack a measure" in out
    code, out, _ = command(*study, "--time-budget", 0)
    assert code == 75 and last(out)["status"] == "paused" and "not complete; the same command goes on" in out


# --- study, merge ---------------------------------------------------------------------------------------------------


def test_study_smoke_from_end_to_end_then_merged(command, monkeypatch, tmp_path):
    monkeypatch.setattr(costs, "_step_seconds", lambda run, how: 0.1)  # as measured in test_costs
    study = ("study", "rq1", "--preset", "smoke", *HERE, "--json")
    code, out, err = command(*study, "--dry-run")
    planned = last(out)
    assert (code, err, planned["status"], planned["runs"], planned["done"]) == (0, "", "dry-run", 24, 0)
    assert planned["flops"] > 0 and planned["minutes"] > 0 and "24 of 24 runs to train" in out
    assert list(tmp_path.iterdir()) == []

    code, out, err = command(*study, "--dry-run", "--set", "seeds=[7]", "--set", "model=B-1/Wi-16")
    assert code == 0 and json.loads(out.splitlines()[-1])["runs"] == 18 and "B-1/Wi-16" in out
    for wrong, says in (
        ("seed=7", "unknown parameter 'seed'"),
        ("seeds", "NAME=VALUE"),
        ("preset=laptop", "--preset"),
        ("train=false", "--time-budget"),
    ):
        code, out, err = command(*study, "--set", wrong)
        assert code == 2 and says in err and len(err.strip().splitlines()) == 1
    code, out, _ = command(*study, "--time-budget", 0)
    assert code == 75 and last(out)["status"] == "paused" and "the same command goes on" in out

    code, out, err = command(*study)
    assert code == 0 and last(out)["status"] == "ok" and last(out)["counts"] == {"ok": 12} and err == ""
    records = list(Store(tmp_path / "runs"))
    assert {record.status for record in records} == {"ok"} and len(records) >= 26

    code, out, _ = command(*study)
    assert code == 0 and len(list(Store(tmp_path / "runs"))) == len(records)
    code, out, _ = command(*study, "--dry-run")
    assert last(out)["runs"] == last(out)["done"] == len(records)

    code, out, _ = command("merge", tmp_path / "runs", "--out", tmp_path / "all")
    assert code == 0 and out == f"{len(records)} records added, 0 known already\n"
    code, out, _ = command("merge", tmp_path / "runs", "--out", tmp_path / "all")
    assert out == f"0 records added, {len(records)} known already\n"
    assert {r.to_json() for r in Store(tmp_path / "all")} == {r.to_json() for r in records}
