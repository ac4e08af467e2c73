"""On which choices of a learning rate each value on the first screen of rq5-test-time rests."""

from collections.abc import Callable, Sequence

from mlp_lib.chapters.rule import Shown
from mlp_lib.chapters.test_time.presets import SHAPES
from mlp_lib.chapters.tuning import Choice


def on_photographs(shown: Shown) -> list[Choice]:
    """The choice of the B-MLP with augmentation."""
    return [
        cell.choice
        for cell in shown.results.cells
        if cell.family == "B-MLP" and cell.augment != "none" and cell.dataset not in SHAPES
    ]


def on_shapes(shown: Shown) -> list[Choice]:
    """The choices on centred and on moved shapes."""
    return [cell.choice for cell in shown.results.cells if cell.dataset in SHAPES]


def everywhere(shown: Shown) -> list[Choice]:
    """Those of all that the rule compares."""
    return [*on_photographs(shown), *on_shapes(shown)]


def nowhere(shown: Shown) -> list[Choice]:
    """None: what the study sets, not what it finds."""
    return []


FIRST_SCREEN: dict[str, Callable[[Shown], Sequence[Choice]]] = {
    "test-time-views": nowhere,
    "test-time-dataset": nowhere,
    "test-time-scale": nowhere,
    "test-time-gain": on_photographs,
    "test-time-moved": on_shapes,
    "test-time-claim-10": everywhere,
    "test-time-robustness": everywhere,
}
