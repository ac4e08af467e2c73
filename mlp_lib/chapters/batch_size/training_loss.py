"""Test accuracy beside the training loss, between batch sizes: which networks are undertrained, and which differ at
equal fit. LION at equal epochs, each batch size at its tuned learning rate."""

import pandas as pd

from mlp_lib.chapters.batch_size.comparisons import between_sizes
from mlp_lib.stats.intervals import Estimate, sign

TEST, LOSS = "test top-1, points [95%]", "training loss, nats [95%]"


def table_between_sizes(tuned: pd.DataFrame) -> pd.DataFrame:
    """`comparisons.between_sizes` for a page, with what the two intervals of each row show, and nothing else."""
    return pd.DataFrame(
        {
            "architecture": row.architecture,
            "batch sizes": f"{row.smaller:,} to {row.larger:,}",
            "steps": f"{row.steps[0]:,} to {row.steps[1]:,}",
            TEST: row.test.text(),
            LOSS: row.loss.text(2) if row.loss else "",
            "the larger batch": what_is_shown(row.test, row.loss) if row.loss else "",
        }
        for row in between_sizes(tuned).itertuples()
    )


def what_is_shown(test: Estimate, loss: Estimate) -> str:
    """What the intervals of two differences, of test accuracy and of training loss, show; one whose interval holds zero
    shows nothing. Empty without intervals."""
    if test.interval is None or loss.interval is None:
        return ""
    fits = {1: "fits less", -1: "fits more", 0: "fit: no difference shown"}[sign(loss)]
    generalises = {1: "generalises better", -1: "generalises worse", 0: "test: no difference shown"}[sign(test)]
    return f"{fits}; {generalises}"
