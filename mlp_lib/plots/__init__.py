"""Figures and tables in one style, from frames of records.

What several chapters share is gathered here; what one chapter alone draws stands in its own folder.
"""

from mlp_lib.plots.curves import (
    error_against_compute,
    first_layers,
    train_test_gap,
    training_length,
)
from mlp_lib.plots.runs_behind import glue
from mlp_lib.plots.style import FAMILY_COLOURS, WIDTH, image_grid, shown, use_style
from mlp_lib.plots.tables import (
    equal_precision,
    table_of_cells,
    table_of_choices,
    table_of_plan,
    table_of_precision,
    table_of_rates,
)

__all__ = [
    "FAMILY_COLOURS",
    "WIDTH",
    "equal_precision",
    "error_against_compute",
    "first_layers",
    "glue",
    "image_grid",
    "shown",
    "table_of_cells",
    "table_of_choices",
    "table_of_plan",
    "table_of_precision",
    "table_of_rates",
    "train_test_gap",
    "training_length",
    "use_style",
]
