"""The scale for which a verdict holds, in words: it stands beside every verdict."""

import pandas as pd

from mlp_lib.records.record import FINISHED


def scale_of(frame: pd.DataFrame) -> str:
    """The scale that goes beside a verdict: data, models and lengths; steps too where batch sizes make them differ.
    Rows of measurements say their own, in a column `scale`."""
    finished = frame[frame["status"].isin(FINISHED)]
    if finished.empty:
        return "no finished runs"
    if "scale" in finished:
        return f"{', '.join(finished['model'].unique())}, {'; '.join(finished['scale'].unique())}"
    examples = ", ".join(f"{n:,}" for n in sorted(finished["train_examples"].unique()))
    lengths = [
        f"{', '.join(f'{int(n):,}' for n in sorted(finished[unit].dropna().unique()))} {unit}{note}"
        for unit, note in (("epochs", _steps_by_batch(finished)), ("steps", ""))
        if unit in finished and finished[unit].notna().any()
    ]
    models = ", ".join(sorted(finished["model"].unique(), key=str))
    return f"{', '.join(finished['dataset'].unique())}, {examples} training images, {models}, {' and '.join(lengths)}"


def _steps_by_batch(finished: pd.DataFrame) -> str:
    """What a number of epochs is in steps at each batch size; nothing where it is the same at all."""
    if not {"batch_size", "total_steps", "epochs"} <= {*finished}:
        return ""
    counted = finished[finished["epochs"].notna() & finished["total_steps"].notna()]
    steps = {
        int(batch): " and ".join(f"{int(n):,}" for n in sorted(rows["total_steps"].unique()))
        for batch, rows in counted.groupby("batch_size")
    }
    if len({*steps.values()}) < 2:
        return ""
    first, *others = steps.items()
    texts = [f"{first[1]} steps at batch {first[0]:,}", *(f"{count} at {batch:,}" for batch, count in others)]
    return f" ({', '.join(texts)})"
