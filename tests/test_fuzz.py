"""Inputs made up at random with a fixed seed: about a minute on two idle cores, two at most."""

import time

import fuzz
import pytest

SECONDS = 100.0  # in all, on a machine however slow
TRIALS = {"image_folders": 250, "npz": 500, "weights": 250, "checkpoints": 500, "records": 500, "fields": 2000}
TRIALS |= {"paths": 2000}


@pytest.mark.slow
@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_made_up_inputs_work_or_are_refused_in_one_line(target, capsys):
    ends, deadline = set(), time.monotonic() + SECONDS / len(fuzz.TARGETS)
    for number in range(TRIALS[target]):
        if time.monotonic() > deadline:
            break
        try:
            ends.add(fuzz.trial(target, number))
        except Exception as error:
            raise AssertionError(f"fuzz.trial({target!r}, {number})") from error
    assert "refused" in ends, "nothing was odd enough"
    assert "works" in ends or target == "checkpoints", "nothing was in order: what comes after the checks is not tried"


def test_a_trial_is_a_function_of_its_number(capsys):
    assert [fuzz.trial("npz", 3) for _ in range(2)] == [fuzz.trial("npz", 3)] * 2
