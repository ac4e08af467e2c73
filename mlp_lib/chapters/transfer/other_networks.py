"""The same chains with other networks: a CNN, an S-MLP, a transformer, and B-MLPs of other widths.

Frames are those of `study.Results`; what is compared has the numbers of images that the rules judge.
"""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from mlp_lib.chapters.transfer.figures import LOOKS, at_judged_size, have_run, judged_model, mark
from mlp_lib.chapters.transfer.presets import AUGMENTED, LONG
from mlp_lib.chapters.transfer.rules import between
from mlp_lib.chapters.transfer.study import Results
from mlp_lib.plots.style import FAMILY_COLOURS, WIDTH, say_not_run
from mlp_lib.records.frames import by_seed
from mlp_lib.stats.intervals import Estimate, difference, paired_difference, sign, t_interval


def gains(results: Results) -> dict[str, Estimate]:
    """Fine-tuned minus from scratch for as long as both, by model that has run: points of test top-1, paired by
    seed."""
    frame = at_judged_size(results)
    found = {model: between(frame[frame["model"] == model], AUGMENTED, LONG) for model in have_run(frame)}
    return {model: estimate for model, estimate in found.items() if estimate.n}


def count(found: dict[str, Estimate], wanted: int) -> int:
    """Of how many models the interval lies wholly above zero (1), wholly below it (-1), or on both sides (0)."""
    return sum(sign(estimate) == wanted for estimate in found.values() if estimate.interval)


def by_model(results: Results) -> Figure:
    """A row a model that has run: test top-1 fine-tuned and from scratch for as long, and beside it their difference,
    with 95% intervals."""
    frame, found = at_judged_size(results), gains(results)
    size = (WIDTH, 1.6 + 0.42 * max(1, len(found)))
    figure, (left, right) = plt.subplots(1, 2, figsize=size, sharey=True, layout="constrained")
    family_of = frame.drop_duplicates("model").set_index("model")["family"]
    for y, (model, estimate) in enumerate(found.items()):
        own = frame[frame["model"] == model]
        for start, shift in ((AUGMENTED, -0.12), (LONG, 0.12)):
            mark(
                left,
                t_interval(by_seed(own, start=start)),
                y + shift,
                label=None if y else start,
                lw=1.2,
                **LOOKS[start],
            )
        mark(right, estimate, y, lw=1.2, color=FAMILY_COLOURS[family_of[model]], marker="o")
    right.axvline(0, color="0.4", lw=0.8)
    left.set_yticks(range(len(found)), [f"{model} ({family_of[model]})" for model in found], fontsize=8)
    left.set_ylim(max(1, len(found)) - 0.5, -0.5)
    left.set_xlabel("test top-1 on the target (%)")
    right.set_xlabel("difference (points)")
    left.set_title("Both ways to the target", fontsize=10)
    right.set_title("Fine-tuned minus from scratch", fontsize=10)
    if found:
        figure.legend(*left.get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=2)
    else:
        say_not_run(left)
    plt.close(figure)
    return figure


def gap(results: Results, start: str, family: str = "CNN") -> Estimate:
    """What the first model of a family is better by than the judged B-MLP after the same start, in points of test
    top-1, paired by seed."""
    frame = at_judged_size(results)
    models = frame.loc[frame["family"] == family, "model"]
    other = models.iloc[0] if len(models) else ""
    sides = (by_seed(frame, model=model, start=start) for model in (other, judged_model(results)))
    return paired_difference(*sides)


def table_of_gaps(results: Results) -> pd.DataFrame:
    """`gap` of every other family, from scratch for as long as both and after pre-training, and how much of it is
    closed (the first minus the second, paired by seed)."""
    frame, rows = at_judged_size(results), []
    mlp = judged_model(results)
    for model in frame["model"].unique():
        own, judged_rows = frame[frame["model"] == model], frame[frame["model"] == mlp]
        if model == mlp or own["family"].iloc[0] == judged_rows["family"].iloc[0]:
            continue
        ahead = {
            start: difference(by_seed(own, start=start), by_seed(judged_rows, start=start))
            for start in (LONG, AUGMENTED)
        }
        texts = {start: t_interval(by_how_much).text() for start, by_how_much in ahead.items()}
        closed = paired_difference(ahead[LONG], ahead[AUGMENTED]).text()
        rows.append({"model": model, **texts, "closed by pre-training": closed})
    return pd.DataFrame(rows) if rows else pd.DataFrame({"model": ["no other family"]})
