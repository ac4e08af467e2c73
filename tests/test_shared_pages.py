"""What the pages of one build share: worked out once, found by the others, and nowhere else."""

import pickle

import numpy as np
import pytest

from mlp_lib import shared_pages
from mlp_lib.chapters import planning, scaling
from mlp_lib.chapters.registry import STUDIES
from mlp_lib.errors import UserError
from mlp_lib.records.store import Store
from mlp_lib.shared_pages import shared
from mlp_lib.stats.laws.joint import fit_joint


def test_a_build_shares_and_everything_else_works_it_out_anew(tmp_path, monkeypatch):
    made = []

    def make():
        made.append(len(made))
        return {"made": len(made)}

    assert shared(("a",), make) == {"made": 1} and shared(("a",), make) == {"made": 2}  # no build: no folder
    monkeypatch.setenv(shared_pages.FOLDER, str(tmp_path))
    assert shared(("a",), make) == {"made": 3} and shared(("a",), make) == {"made": 3}
    assert shared(("a", 1), make) == {"made": 4} and shared(("a", 1.5), make) == {"made": 5}
    assert not list(tmp_path.glob("*.part")) and len(list(tmp_path.iterdir())) == 3


def test_what_fails_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setenv(shared_pages.FOLDER, str(tmp_path))

    def fail():
        raise UserError("too few runs")

    for _ in range(2):
        with pytest.raises(UserError, match="too few"):
            shared(("a",), fail)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [name for name, study in STUDIES.items() if study.measured is None])
def test_results_and_plans_of_every_chapter_can_be_shared(name, tmp_path):
    study, store = STUDIES[name], Store()
    grid = study.presets["laptop"]
    plan = planning.plan(study, grid, store)
    results = planning.recorded(study, grid, store)
    again = pickle.loads(pickle.dumps((results, plan)))
    assert type(again[0]) is type(results) and again[0].sufficient == results.sufficient
    assert again[1] == plan


def test_a_page_reads_the_results_that_another_has_worked_out_until_a_record_comes(tmp_path, monkeypatch):
    """Two stores on one folder stand for two pages."""
    monkeypatch.setenv(shared_pages.FOLDER, str(tmp_path / "shared"))
    (tmp_path / "shared").mkdir()
    (tmp_path / "runs").mkdir()
    study, collected, real = STUDIES["rq1"], [], planning.from_records
    grid = study.presets["smoke"]
    monkeypatch.setattr(planning, "from_records", lambda store: collected.append(store) or real(store))
    for _ in range(2):
        assert not planning.recorded(study, grid, Store(tmp_path / "runs")).complete
    assert len(collected) == 1
    (tmp_path / "runs" / "new.txt").write_text("something came into the folder")
    planning.recorded(study, grid, Store(tmp_path / "runs"))
    assert len(collected) == 2


def test_a_law_is_fitted_once_for_equal_runs(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    params, examples = (grid.ravel() for grid in np.meshgrid([1e4, 1e5, 1e6], [500.0, 2000.0, 8000.0]))
    loss = (0.3 + 20 / params**0.4 + 15 / examples**0.35) * np.exp(0.01 * rng.standard_normal(9))
    fits = []
    monkeypatch.setattr(scaling, "fit_joint", lambda *a, **k: fits.append(k) or fit_joint(*a, **k))
    first = scaling.joint_law(params, examples, loss)
    assert scaling.joint_law(params.copy(), list(examples), loss) is first and len(fits) == 1
    assert scaling.joint_law(params, examples, loss * 1.001) is not first
    huber = scaling.joint_law(params, examples, loss, "huber")
    assert huber.method == "huber" and len(fits) == 3
    assert first.constants == fit_joint(params, examples, loss).constants
