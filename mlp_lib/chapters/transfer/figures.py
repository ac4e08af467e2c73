"""What pre-training brings on the target: figures and tables of chapter rq5-transfer.

Frames are those of `study.Results`.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mlp_lib.chapters.transfer.presets import AUGMENTED, LONG, PLAIN, PRE_TRAINED, SCRATCH, SCRATCH_PLAIN, STARTS
from mlp_lib.chapters.transfer.rules import between, judged
from mlp_lib.chapters.transfer.study import Results
from mlp_lib.plots import tables
from mlp_lib.plots.style import FAMILY_COLOURS, WIDTH, label_ends, plain_log_axis, say_not_run, t_bounds
from mlp_lib.records.behind import with_runs
from mlp_lib.records.frames import by_seed, curves, measures_of
from mlp_lib.records.record import FINISHED
from mlp_lib.stats.equivalent_examples import Equivalent, equivalent_examples
from mlp_lib.stats.intervals import Estimate, paired_difference, t_interval

# A start is told by colour and by mark: filled after pre-training, hollow from scratch.
LOOKS = {
    AUGMENTED: dict(color="#1B3A8A", marker="o"),
    PLAIN: dict(color="#C4302B", marker="s"),
    LONG: dict(color="#2AA198", marker="^", mfc="white"),
    SCRATCH: dict(color="#B8860B", marker="v", mfc="white"),
    SCRATCH_PLAIN: dict(color="#777777", marker="D", mfc="white"),
}


def accuracy(results: Results) -> Figure:
    """Test top-1 on the target after every start, of the judged model and of the first control, a panel each, with 95%
    t-intervals between seeds."""
    frame = at_judged_size(results)
    models = have_run(frame)[:2]
    figure, axes = plt.subplots(len(models), 1, figsize=(WIDTH, 0.7 + 1.35 * len(models)), sharex=True, squeeze=False)
    for axis, model in zip(axes[:, 0], models, strict=True):
        rows = frame[frame["model"] == model]
        starts = [start for start in STARTS if start in set(rows["start"])]
        for y, start in enumerate(reversed(starts)):
            found = t_interval(by_seed(rows, start=start))
            if found.n:
                mark(axis, found, y, lw=1.2, **LOOKS[start])
        axis.set_yticks(range(len(starts)), list(reversed(starts)), fontsize=8)
        axis.set_ylim(-0.6, len(starts) - 0.4)
        axis.set_title(f"{rows['family'].iloc[0]} ({model}): five ways to the target", fontsize=10)
        if not rows["status"].isin(FINISHED).any():
            say_not_run(axis, ticks=True)
    axes[-1, 0].set_xlabel("test top-1 on the target (%)")
    plt.close(figure)
    return figure


def mark(axis, found: Estimate, y: float, **look) -> None:
    """An estimate with its interval, if it has one, at a height."""
    low, high = found.interval or (found.mean, found.mean)
    axis.errorbar(found.mean, y, xerr=[[found.mean - low], [high - found.mean]], capsize=3, **look)


def by_target_images(results: Results) -> Figure:
    """The judged model's test top-1 against the number of target images, a line a start, with 95% bands."""
    frame = results.frame[results.frame["whole_upstream"] & (results.frame["model"] == judged_model(results))]
    figure, axis = plt.subplots(figsize=(WIDTH, 3.4))
    for start in STARTS:
        table = _by_images(frame[frame["start"] == start], "train_examples")
        _line(axis, table, LOOKS[start], start)
    axis.set(xlabel="training images of the target (logarithmic)", ylabel="test top-1 (%)")
    axis.set_title(f"{judged_model(results)}: accuracy by number of target images", fontsize=10)
    _finish(axis, frame["train_examples"])
    plt.close(figure)
    return figure


def by_upstream_images(results: Results) -> Figure:
    """Against the number of upstream images, at equal steps: test top-1 after fine-tuning, and what a linear probe
    reads from the features, with 95% bands."""
    frame, upstream = results.frame, results.upstream
    model = judged_model(results)
    figure, axis = plt.subplots(figsize=(WIDTH, 3.2))
    own = frame[(frame["model"] == model) & (frame["start"] == AUGMENTED)]
    own = own[own["train_examples"] == _judged_images(results)]
    _line(axis, _by_images(own, "upstream_images"), LOOKS[AUGMENTED], "fine-tuned")
    parents = upstream[(upstream["model"] == model) & (upstream["pre_training"] == AUGMENTED)]
    parents = parents.assign(test_top1=read(parents, "probe_"))
    probe = LOOKS[AUGMENTED] | dict(mfc="white", ls="--")
    _line(axis, _by_images(parents, "upstream_images"), probe, "linear probe on all of the target")
    axis.set(xlabel="upstream images, at equal steps (logarithmic)", ylabel="test top-1 on the target (%)")
    axis.set_title(f"{model}: accuracy by number of upstream images", fontsize=10)
    _finish(axis, own["upstream_images"])
    plt.close(figure)
    return figure


def more_upstream(results: Results) -> Estimate:
    """What the judged model gains on the target, fine-tuned, from the fewest to the most upstream images at equal
    steps, in points of test top-1, paired by seed."""
    frame = results.frame
    own = frame[(frame["model"] == judged_model(results)) & (frame["train_examples"] == _judged_images(results))]
    sizes = own.loc[own["start"] == AUGMENTED, "upstream_images"]
    most, fewest = (by_seed(own, start=AUGMENTED, upstream_images=size) for size in (sizes.max(), sizes.min()))
    return paired_difference(most, fewest) if sizes.nunique() > 1 else t_interval([])


def low_shot(results: Results) -> Figure:
    """Test top-1 of a linear probe against images a class, a line a kind of pre-training, of the first model of every
    family, with 95% bands."""
    figure, axis = plt.subplots(figsize=(WIDTH, 3.2))
    upstream = _whole(results.upstream)
    first = upstream.drop_duplicates("family")["model"]
    for (model, start), rows in upstream[upstream["model"].isin(first)].groupby(["model", "pre_training"], sort=False):
        family = rows["family"].iloc[0]
        found = [low for row in rows.to_dict("records") for name, low in measures_of(row).items() if "low_shot" in name]
        if not found:
            continue
        shots, top1 = found[0]["shots"], np.array([low["top1"] for low in found])  # (seeds, shots)
        look = dict(color=FAMILY_COLOURS[family], ls="-" if start == AUGMENTED else "--", marker="o")
        axis.plot(shots, top1.mean(0), label=f"{model}, {start}", mfc=None if start == AUGMENTED else "white", **look)
        bounds = np.array([t_bounds(pd.Series(column)) for column in top1.T])
        axis.fill_between(shots, bounds[:, 0], bounds[:, 1], color=FAMILY_COLOURS[family], alpha=0.12, lw=0)
    axis.set(xlabel="images a class that the probe sees (logarithmic)", ylabel="test top-1 on the target (%)")
    axis.set_title("What a linear probe reads from few images", fontsize=10)
    if axis.lines:
        plain_log_axis(axis)
        axis.set_xticks(shots, [str(s) for s in shots])
        axis.minorticks_off()
        axis.legend(fontsize=8)
    else:
        say_not_run(axis)
    plt.close(figure)
    return figure


def learning(results: Results) -> Figure:
    """Validation top-1 on the target against steps on it, of the judged model, a line a start, with 95% bands."""
    points = curves(judged(results.frame))
    figure, axis = plt.subplots(figsize=(WIDTH, 3.2))
    for start in STARTS:
        rows = points[points["start"] == start] if len(points) else points
        if rows.empty:
            continue
        band = rows.groupby("step")["val_top1"].agg(["mean", t_bounds])
        look = LOOKS[start]
        axis.plot(band.index, band["mean"], label=start, ms=4, **look)
        low, high = zip(*band["t_bounds"], strict=True)
        axis.fill_between(band.index, low, high, color=look["color"], alpha=0.12, lw=0)
    axis.set(xlabel="steps on the target (logarithmic)", ylabel="validation top-1 (%)")
    axis.set_title(f"{judged_model(results)}: learning curves on the target", fontsize=10)
    if axis.lines:
        plain_log_axis(axis)
        axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    else:
        say_not_run(axis)
    plt.close(figure)
    return figure


def table_of_starts(results: Results) -> pd.DataFrame:
    """Test top-1 on the target by model and start, and each start minus the model's training from scratch for as long
    as both, in points, paired by seed."""
    frame, rows = at_judged_size(results), []
    for model in have_run(frame):
        own = frame[frame["model"] == model]
        for start in [start for start in STARTS if start in set(own["start"])]:
            found = own[own["start"] == start]
            beyond = "" if start == LONG else between(own, start, LONG).text()
            rows.append(
                {
                    "model": model,
                    "start": start,
                    "train top-1 %": tables.percent(found, "train_top1"),
                    "test top-1 % [95%]": t_interval(by_seed(found)).text(),
                    "minus from scratch, for as long": beyond,
                }
            )
    return pd.DataFrame(rows)


def table_of_sizes(results: Results) -> pd.DataFrame:
    """By number of target images: the judged model's test top-1 fine-tuned and from scratch, the difference, and how
    many images from scratch bring what pre-training brought."""
    frame = results.frame[results.frame["whole_upstream"] & (results.frame["model"] == judged_model(results))]
    rows = []
    for size in sorted(frame["train_examples"].unique()):
        own = frame[frame["train_examples"] == size]
        rows.append(
            {
                "target images": f"{size:,}",
                AUGMENTED: t_interval(by_seed(own, start=AUGMENTED)).text(),
                LONG: t_interval(by_seed(own, start=LONG)).text(),
                "difference": between(own, AUGMENTED, LONG).text(),
                "as many images from scratch": worth(results, int(size)).text() if _sizes(frame) > 1 else "one size",
            }
        )
    return pd.DataFrame(rows)


def worth(results: Results, images: int | None = None) -> Equivalent:
    """At how many target images does training from scratch, for as long as both, reach what pre-training with
    augmentation reached at `images` of them (where the rules judge, unless given)? n = 0 where there is one size."""
    frame = results.frame[results.frame["whole_upstream"] & (results.frame["model"] == judged_model(results))]
    curve = _by_images(frame[frame["start"] == LONG], "train_examples").dropna(axis="columns", how="all")
    if len(curve.columns) < 2:
        return Equivalent(float("nan"), None, 0, 0, 0)
    changed = by_seed(frame, start=AUGMENTED, train_examples=images or _judged_images(results))
    return equivalent_examples(curve, changed)


def table_of_features(results: Results) -> pd.DataFrame:
    """What is read from the features of every pre-training, in percent of test top-1 on the target: by the convex
    probe, by the paper's own (LION for 50 epochs), and after fine-tuning on the images that the rules judge."""
    rows = []
    for (model, start, images), own in results.upstream.groupby(
        ["model", "pre_training", "upstream_images"], sort=False
    ):
        tuned = results.frame[(results.frame["model"] == model) & (results.frame["start"] == start)]
        tuned = tuned[(tuned["upstream_images"] == images) & (tuned["train_examples"] == _judged_images(results))]
        rows.append(
            {
                "model": model,
                "pre-training": start.removeprefix("pre-trained "),
                "upstream images": f"{images:,}",
                "upstream val. top-1 %": tables.percent(own, "val_top1"),
                "convex probe": t_interval(read(own, "probe_").dropna()).text(),
                "the paper's probe": t_interval(read(own, "trained_probe_").dropna()).text(),
                "fine-tuned": t_interval(by_seed(tuned)).text(),
            }
        )
    return pd.DataFrame(rows)


def probe_difference(results: Results, reader: str = "probe_"):
    """The judged model's probe after pre-training with augmentation minus without, paired by seed, in points."""
    own = _whole(results.upstream)
    own = own[own["model"] == judged_model(results)]
    sides = [own[own["pre_training"] == start] for start in PRE_TRAINED]
    first, second = (with_runs(read(side, reader).set_axis(side["seed"]), side).dropna() for side in sides)
    return paired_difference(first, second)


def beside_the_paper(results: Results, scratch: pd.DataFrame, pre_trained: pd.DataFrame) -> pd.DataFrame:
    """The paper's numbers on the target set, from scratch and pre-trained (`claims.paper_table` of "table1" and
    "table2"), and below them ours, with what each was trained on."""
    target = judged(results.frame)["dataset"].iloc[0]
    rows = []
    for row in scratch[(scratch["dataset"] == target) & (scratch["family"] == "B-MLP")].itertuples():
        how = f"from scratch, {'no augmentation' if row.augment == 'none' else 'augmented'}, {row.epochs} epochs"
        rows.append(("the paper", row.model, how, f"{row.top1:.1f} ({row.source})"))
    for row in pre_trained[(pre_trained["dataset"] == target) & (pre_trained["tta"] == "no")].itertuples():
        how = f"pre-trained {'with' if row.augmented == 'yes' else 'without'} augmentation on 11.8 million images"
        rows.append(("the paper", row.model, how, f"{row.top1:.1f} ({row.source})"))
    images = _judged_images(results)
    for start in (LONG, PLAIN, AUGMENTED):
        found = t_interval(by_seed(judged(results.frame), start=start))
        rows.append(("ours", judged_model(results), f"{start}; {images:,} images of the target", found.text()))
    return pd.DataFrame(rows, columns=["whose", "model", "how", "test top-1 %"])


def table_of_choices(results: Results) -> pd.DataFrame:
    """How each learning rate was chosen (`plots.tables.table_of_rates`): of the pre-trainings, then on the target."""
    stages = {"upstream": results.upstream_choices, "target": results.choices}
    choices = {(stage, *side): choice for stage, chosen in stages.items() for side, choice in chosen.items()}
    return tables.table_of_rates(choices, ("training", "model", "start"))


def judged_model(results: Results) -> str:
    return judged(results.frame)["model"].iloc[0]


def _judged_images(results: Results) -> int:
    return int(judged(results.frame)["train_examples"].iloc[0])


def have_run(frame: pd.DataFrame) -> list[str]:
    """The models of which any run has ended, in order; the judged one in any case."""
    return list(frame.loc[frame["status"].isin(FINISHED) | frame["judged"], "model"].unique())


def at_judged_size(results: Results) -> pd.DataFrame:
    """The rows of every model with the numbers of images that the rules judge."""
    frame = results.frame[results.frame["whole_upstream"]]
    return frame[frame["train_examples"] == _judged_images(results)]


def _whole(upstream: pd.DataFrame) -> pd.DataFrame:
    return upstream[upstream["upstream_images"] == upstream["upstream_images"].max()]


def _sizes(frame: pd.DataFrame) -> int:
    return frame.loc[frame["status"].isin(FINISHED) & (frame["start"] == LONG), "train_examples"].nunique()


def read(upstream: pd.DataFrame, reader: str) -> pd.Series:
    """Test top-1 of the probe whose measure's name begins with `reader`, a row a pre-training; nan where there is
    none."""
    values = [
        next((m["test_top1"] for name, m in measures_of(row).items() if name.startswith(reader)), float("nan"))
        for row in upstream.to_dict("records")
    ]
    return with_runs(pd.Series(values, upstream.index, dtype=float), upstream)


def _by_images(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Test top-1, a row a seed and a column a number of images."""
    return with_runs(pd.DataFrame({images: by_seed(own) for images, own in rows.groupby(column)}), rows, by="seed")


def _line(axis, table: pd.DataFrame, look: dict, label: str) -> None:
    table = table.dropna(axis="columns", how="all")
    if table.empty:
        return
    mean = table.mean()
    axis.plot(mean.index, mean, label=label, **look)
    low, high = np.array([t_bounds(table[images]) for images in table]).T
    if len(mean) == 1:  # a band of one point cannot be seen
        axis.vlines(mean.index, low, high, color=look["color"], lw=1.2)
    axis.fill_between(mean.index, low, high, color=look["color"], alpha=0.12, lw=0)


def _finish(axis, sizes: pd.Series) -> None:
    if not axis.lines:
        say_not_run(axis)
        return
    plain_log_axis(axis)
    ticks = sorted(sizes.unique())
    axis.set_xticks(ticks, [f"{size:,}" for size in ticks])
    axis.minorticks_off()
    label_ends(axis)
