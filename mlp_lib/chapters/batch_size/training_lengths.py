"""Does the order of batch sizes hold at every training length? A table of learning curves, read across batch sizes.

They are of LION's runs at the learning rate tuned for each batch size, on the validation part. At a constant learning
rate one long run contains the shorter ones; under a schedule only its end counts.
"""

import numpy as np
import pandas as pd

from mlp_lib.chapters.batch_size.comparisons import BEST, DIFFERENCE, means_by_length


def table_by_length(tuned: pd.DataFrame) -> pd.DataFrame:
    """`comparisons.means_by_length` for a page: a row an architecture and length, a column a batch size."""
    rows = [
        {
            "architecture": row.architecture,
            "epochs": row.epoch if row.epoch == BEST else f"{row.epoch:g}",
            **{f"batch {size:,}": "not run" if np.isnan(mean) else f"{mean:.1f}" for size, mean in row.means.items()},
            DIFFERENCE: row.difference.text(),
        }
        for row in means_by_length(tuned).itertuples()
    ]
    return pd.DataFrame(rows) if rows else pd.DataFrame({DIFFERENCE: ["not run"]})


def floor_of_loss(classes: int, smoothing: float) -> float:
    """The training loss, in nats against hard labels, of a network that answers exactly what label smoothing asks for:
    -log(1 - smoothing + smoothing / classes). Below it a network is surer than it was taught to be."""
    return float(np.log(1 / (1 - smoothing + smoothing / classes)))
