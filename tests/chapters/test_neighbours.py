"""A conclusion repeated at the neighbouring rates, from the runs by which rates are chosen; flagged choices."""

import pandas as pd
import pytest

from mlp_lib.chapters.parameters import TUNING_SEEDS
from mlp_lib.chapters.tuning import Choice, at_either_neighbour, at_neighbours, contrast_at_neighbours, flagged
from mlp_lib.stats.intervals import t_interval


def choice(scores: dict[float, float], lr: float, seeds=TUNING_SEEDS) -> Choice:
    """A choice of `lr` from a grid with these scores; seeds differ by a tenth of a point, on which all agree."""
    grid = pd.DataFrame({"lr": list(scores), "val_top1": list(scores.values()), "status": "ok", "key": "k"})
    rows = [{"lr": a, "seed": seed, "val_top1": score + seed / 10} for a, score in scores.items() for seed in seeds]
    return Choice(lr, lr in (min(scores), max(scores)), True, grid, pd.DataFrame(rows))


HIGH = choice({1e-4: 41.0, 3e-4: 44.0, 1e-3: 43.0}, 3e-4)
LOW = choice({1e-4: 40.0, 3e-4: 42.0, 1e-3: 39.0}, 3e-4)


def test_a_difference_is_repeated_with_either_rate_moved():
    found = at_neighbours(HIGH, LOW)
    means = {name: round(estimate.mean, 6) for name, estimate in found.items()}
    assert means == {
        "0.0003, 0.0003": 2,
        "0.0001, 0.0003": -1,
        "0.001, 0.0003": 1,
        "0.0003, 0.0001": 4,
        "0.0003, 0.001": 5,
    }
    assert {estimate.n for estimate in found.values()} == {3}
    assert at_either_neighbour(found) == "-1.0 to 5.0; sign kept at 3 of 4"


def test_a_difference_of_differences_moves_one_of_four_rates_at_a_time():
    found = contrast_at_neighbours((1, HIGH), (-1, LOW), (-1, LOW), (1, LOW))
    assert len(found) == 1 + 4 * 2 and next(iter(found.values())).mean == pytest.approx(2)


def test_a_rate_that_is_given_has_no_neighbours_and_nothing_to_flag():
    given = Choice(1e-3, False, True, pd.DataFrame({"lr": [1e-3], "val_top1": None, "status": "given"}))
    found = at_neighbours(given, given)
    assert list(found) == ["0.001, 0.001"] and found["0.001, 0.001"].n == 0 and at_either_neighbour(found) == ""
    assert flagged({"given": given, "sound": HIGH}) == {}


def test_only_choices_with_something_against_them_are_flagged():
    edge, one = choice({1e-4: 40.0, 3e-4: 42.0}, 3e-4), choice({1e-4: 40, 3e-4: 42, 1e-3: 39}, 3e-4, TUNING_SEEDS[:1])
    assert flagged({"edge": edge, "one": one, "sound": LOW}) == {
        "edge": ("at an edge of its grid",),
        "one": ("chosen by one seed",),
    }
    assert at_neighbours(one, one)["0.0003, 0.0003"] == t_interval([0.0])
