"""What a chapter's notebook calls: parameters are checked before anything else, and nothing trains that may not."""

import math
import shlex
from types import SimpleNamespace

import pytest
from helpers import NO_TENSORS, record_of

from mlp_lib.chapters import notebook, planning
from mlp_lib.chapters.notebook import check_parameters, open_chapter
from mlp_lib.cli.study import assignments
from mlp_lib.errors import UserError
from mlp_lib.plots import tables
from mlp_lib.records.store import Store


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (dict(bogus=1), "unknown parameter 'bogus'; this chapter takes: preset, train"),
        (dict(preset="smok"), "preset='smok'.*'smoke'"),
        (dict(budget_minutes="long"), "budget_minutes='long'"),
        (dict(epochs="ten"), "epochs='ten'"),
        (dict(model="B9"), "unknown model 'B9'"),
        (dict(model="CNN-16"), "model='CNN-16' is no B-MLP; .*for example B-6/Wi-128"),
        (dict(model="S-6/Wi-128"), "model='S-6/Wi-128' is no B-MLP"),
        (dict(lrs=3e-4), r"lrs=0.0003: give a list, as -y \"lrs: \[0.0003\]\" .*--set \"lrs=\[0.0003\]\""),
        (dict(dataset="nothing"), "nothing"),
        (dict(preset="smoke", batch_size=10_000), "batch_size=10000"),
        (dict(seeds=[]), "seeds is empty"),
    ],
)
def test_a_bad_parameter_is_one_line_and_writes_nothing(tmp_path, values, says):
    with pytest.raises(UserError, match=says) as caught:
        open_chapter("rq1", values, Store(tmp_path / "runs"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("study", ["rq1", "rq1-permutation", "rq2-augmentation", "rq2-batch-size"])
def test_what_takes_the_b_mlps_place_is_a_b_mlp(tmp_path, study):
    """Anything else would be labelled, and judged, as one."""
    for model in ("CNN-16", "S-6/Wi-128", "ViT-64x4/8"):
        with pytest.raises(UserError, match=f"model='{model}' is no B-MLP"):
            open_chapter(study, {"preset": "laptop", "model": model}, Store(tmp_path))
    opened = open_chapter(study, {"preset": "laptop", "model": "B-2/Wi-64"}, Store(tmp_path))
    assert "B-2/Wi-64" in {run.model for run in opened.plan().runs}


def test_what_is_not_a_parameter_is_passed_over():
    namespace = {"preset": "smoke", "train": False, "math": math, "function": open_chapter, "_hidden": 1, "In": []}
    assert notebook.notebook_values(namespace) == {"preset": "smoke", "train": False}


CELL = '# Parameters: papermill replaces them\npreset: str = "auto"\ntrain: bool = True\nepochs: int = None\n'
INJECTED = '# Parameters\npreset = "smoke"\ntrain = False\n'


def after(*cells: str, startup: str = "") -> dict:
    """A kernel's `globals()` when it has run a start-up file and then these cells."""
    namespace: dict = {}
    exec(startup, namespace)
    namespace["In"] = ["", *cells]
    for cell in cells:
        exec("\n".join(line for line in cell.splitlines() if not line.startswith("%")), namespace)
    return namespace


@pytest.mark.parametrize(
    "startup",
    [
        "DATA_DIR = '/data'",
        "from math import *",
        "import numpy as np\nfrom numpy import *",
        "epochs = 77\nlrs = 3",
        "answer = preset = 'x'",
    ],
)
def test_what_start_up_files_define_is_no_parameter(startup):
    opened = open_chapter("rq1", after(CELL, INJECTED, "x = 5\nresults = [x]", startup=startup))
    assert (opened.preset, opened.parameters.train, opened.parameters.epochs) == ("smoke", False, None)
    check_parameters(after(CELL.replace("epochs: int = None\n", ""), startup=startup))


def test_what_papermill_injects_is_a_parameter_whatever_start_up_files_define():
    with pytest.raises(UserError, match="unknown parameter 'pi'; this chapter takes"):
        open_chapter("rq1", after(CELL, INJECTED + "pi = 3\n", startup="from math import *"))
    with pytest.raises(UserError, match="unknown parameter 'epoch'"):
        open_chapter("rq1", after(CELL.replace("epochs", "epoch")))


def test_a_readers_own_cell_changes_a_parameter():
    namespace = after(CELL, "%matplotlib inline\npreset, train = 'smoke', False\nother = 3", "epochs = 4")
    opened = open_chapter("rq1", namespace)
    assert (opened.preset, opened.parameters.epochs, opened.parameters.train) == ("smoke", 4, False)


def test_text_from_papermill_is_converted():
    opened = open_chapter("rq1", {"preset": "smoke", "train": False, "epochs": "2", "lrs": ["1e-3"]})
    assert (opened.grid.epochs, opened.grid.lrs) == (2, (0.001,))


def test_without_training_missing_runs_are_shown_with_their_cost(tmp_path, capsys):
    opened = open_chapter("rq1", {"preset": "smoke", "train": False}, Store(tmp_path))
    results = opened.results()
    assert set(results.frame["status"]) == {"not run"}
    said = capsys.readouterr().out
    assert "FLOPs" in said and "Not run here" in said
    assert not list(tmp_path.iterdir())


def test_auto_takes_toy_data_when_there_are_no_records(tmp_path):
    assert open_chapter("rq1", {"dataset": "digits"}, Store(tmp_path)).preset == "smoke"
    assert open_chapter("rq1", {"dataset": "cifar10"}, Store(tmp_path)).preset == "laptop"


def test_auto_says_when_the_readers_changes_leave_it_a_small_preset(tmp_path, capsys):
    opened = open_chapter("rq1", {"epochs": 2}, Store(tmp_path))
    said = capsys.readouterr().out
    assert opened.preset == "smoke" and said.count("\n") == 1 and "so smoke is taken" in said and "overnight" in said
    open_chapter("rq1", {}, Store(tmp_path))  # nothing changed: there are no records at all
    open_chapter("rq1", {"preset": "smoke", "epochs": 2}, Store(tmp_path))  # asked for
    seeds = {"preset": "smoke", "seeds": [0, 1, 2], "lrs": [1e-3]}
    for run in open_chapter("rq1", seeds, Store(tmp_path)).plan().runs:
        Store(tmp_path).add(record_of(run))
    assert open_chapter("rq1", seeds | {"preset": "auto"}, Store(tmp_path)).preset == "smoke"  # for its records
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("study", "values"),
    [
        ("rq1", {}),
        ("rq1", {"model": "B-6/Wi-128", "dataset": "cifar100", "subset": 10_000, "lrs": [3e-4, 1e-3], "seeds": ["7"]}),
        ("rq2-batch-size", {"optimizers": ["sgd"], "batch_sizes": [64, 512], "shared_batch": 512}),
    ],
)
def test_the_printed_command_trains_the_same_runs(tmp_path, study, values):
    opened = open_chapter(study, {"preset": "laptop", "train": False, **values}, Store(tmp_path))
    python, m, library, command, name, option, preset, *sets = shlex.split(opened.command)
    assert (python, m, library, command, name, option) == ("python", "-m", "mlp_lib", "study", study, "--preset")
    given = assignments([text for text in sets if text != "--set"])
    assert len(given) == len(values) == sets.count("--set")
    grid = opened.study.resolve(preset, **opened.study.parameters(**given).changes)
    runs = planning.plan(opened.study, grid, Store(tmp_path)).runs
    assert [run.key for run in runs] == [run.key for run in opened.plan().runs]


def test_missing_runs_are_announced_with_that_command(tmp_path, capsys):
    opened = open_chapter("rq1", {"preset": "smoke", "train": False, "seeds": [7]}, Store(tmp_path))
    opened.results()
    assert f"`{opened.command}`" in capsys.readouterr().out and "seeds=[7]" in opened.command


def test_recorded_runs_that_lack_a_measure_are_announced_with_what_it_costs(tmp_path, capsys):
    store = Store(tmp_path)
    opened = open_chapter("rq2-augmentation", {"preset": "smoke", "train": False}, store)
    runs = opened.plan().runs
    for run in runs:
        store.add(record_of(run, measures={"translated": {}}))
    mlps = [run for run in runs if run.model[0] in "SB"]
    store.weights.mkdir()
    (store.weights / f"{mlps[0].key}.safetensors").write_bytes(NO_TENSORS)
    opened.results()
    lost = len(mlps) - 1
    said = capsys.readouterr().out
    assert 0 < lost < len(runs) - 1 and f"{lost} runs are recorded, but lack a measure" in said
    assert f"{lost} runs are missing: " in said and " FLOPs, " in said and "Not run here" in said
    assert "1 recorded runs lack a measure that their kept weights give; train=True" in said
    assert set(tables.table_of_plan(opened.plan())["state"]) == {"done", "to be measured", "to be trained again"}


def test_a_string_that_json_would_read_as_something_else_stays_one():
    assert assignments([f"x={notebook._written(value)}" for value in ("12",)]) == {"x": "12"}


def test_other_notebooks_name_their_parameters():
    settings = check_parameters({"preset": "smoke", "train": True, "lr": "1e-3", "chapter": notebook}, lr=float)
    assert settings.lr == 0.001
    with pytest.raises(UserError, match="unknown parameter 'learning_rate'"):
        check_parameters({"learning_rate": 1.0, "lr": 1.0}, lr=float)
    with pytest.raises(UserError, match="lr='fast'"):
        check_parameters({"lr": "fast"}, lr=float)


@pytest.mark.parametrize(
    ("done", "changes", "shown"),
    [
        ({"overnight", "laptop"}, {}, "overnight"),
        ({"laptop", "smoke"}, {}, "laptop"),  # the one shown is not finished: the next smaller that is
        ({"smoke"}, {}, "overnight"),  # a rehearsal stands in for nothing
        ({"laptop", "gpu"}, {"epochs": 2}, "overnight"),  # the reader's own settings: nothing else is about them
    ],
)
def test_what_the_shown_preset_lacks_comes_from_the_largest_smaller_one(tmp_path, done, changes, shown):
    sizes = ("smoke", "laptop", "overnight", "gpu")
    study = SimpleNamespace(
        name="x",
        measured=None,
        presets={size: size for size in sizes},
        resolve=lambda size, **changes: size,
        collect=lambda size, ensure: size,
    )
    opened = notebook.Chapter(study, SimpleNamespace(changes=changes), "overnight", Store(tmp_path))
    assert opened.largest_with(lambda results: results in done) == (shown, shown)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("[B-6/Wi-32, B-6/Wi-64]", ["B-6/Wi-32", "B-6/Wi-64"]),
        ('["B-6/Wi-32"]', ["B-6/Wi-32"]),
        ("[npz:mine]", ["npz:mine"]),
        ("[1, 2.5, x]", [1, 2.5, "x"]),
        ("[[a]]", "[[a]]"),  # what a list of lists means nobody has said
        ("[]", []),
        ("a[1]", "a[1]"),
    ],
)
def test_a_list_of_names_needs_no_quotes(written, value):
    assert assignments([f"x={written}"]) == {"x": value}
