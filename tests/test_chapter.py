"""What a chapter's notebook calls: parameters are checked before anything else, and nothing trains that may not."""

import math
from types import SimpleNamespace

import pytest

from mlp_lib import chapter
from mlp_lib.chapter import check_parameters, open_chapter
from mlp_lib.errors import UserError
from mlp_lib.records import Store


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (dict(bogus=1), "unknown parameter 'bogus'; this chapter takes: preset, train"),
        (dict(preset="smok"), "preset='smok'.*'smoke'"),
        (dict(budget_minutes="long"), "budget_minutes='long'"),
        (dict(epochs="ten"), "epochs='ten'"),
        (dict(model="B9"), "unknown model 'B9'"),
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


def test_what_is_not_a_parameter_is_passed_over():
    namespace = {"preset": "smoke", "train": False, "math": math, "function": open_chapter, "_hidden": 1, "In": []}
    assert chapter.notebook_values(namespace) == {"preset": "smoke", "train": False}


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


def test_other_notebooks_name_their_parameters():
    settings = check_parameters({"preset": "smoke", "train": True, "lr": "1e-3", "chapter": chapter}, lr=float)
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
        PRESETS=dict.fromkeys(sizes), resolve=lambda size, **changes: size, collect=lambda size, ensure: size
    )
    opened = chapter.Chapter(study, SimpleNamespace(changes=changes), "overnight", Store(tmp_path))
    assert opened.largest_with(lambda results: results in done) == (shown, shown)
