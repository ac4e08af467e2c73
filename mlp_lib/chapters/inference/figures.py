"""Figures and tables of what inference costs. Everything is read from the measurement and its frame."""

from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from mlp_lib.chapters.inference.measurements import Measurement
from mlp_lib.chapters.inference.rules import (
    COMPETITORS,
    FAR,
    bound_seconds,
    common_batch,
    flops_ratio,
    judged_mlp,
    latency_ratio,
    nearest_mlp,
    throughput_ratio,
)
from mlp_lib.plots.style import FAMILY_COLOURS, WIDTH, label_ends, say_not_run, t_bounds
from mlp_lib.records.architectures import MLPS
from mlp_lib.stats.intervals import Estimate, paired_ratio, t_interval

MARKERS = {"FLOPs": "s", "images/s": "o", "one image alone": "D"}
STYLES = ("-", "--", "-.", ":")  # of the MLPs, from the largest down


def ratios(frame: pd.DataFrame) -> dict[str, dict[str, Estimate]]:
    """How many times cheaper the largest MLP is than each network, by family: in FLOPs, in images/s at the largest
    common batch size, and in seconds for one image alone. Empty where nothing was measured."""
    if frame.empty:
        return {}
    mlp, batch = judged_mlp(frame), common_batch(frame)
    return {
        family: {
            "FLOPs": flops_ratio(frame, family, mlp),
            "images/s": throughput_ratio(frame, family, mlp, batch),
            "one image alone": latency_ratio(frame, family, mlp),
        }
        for family in COMPETITORS
        if (frame["family"] == family).any()
    }


def at_own_largest(frame: pd.DataFrame) -> dict[str, Estimate]:
    """Images/s of the largest MLP over those of each network, by family, each at the largest batch size at which it was
    timed itself: geometric means of the ratios within a round."""

    def rates(model: str) -> pd.Series:
        own = frame[frame["model"] == model]
        own = own[own["batch_size"] == own["batch_size"].max()]
        return own.set_index("seed")["images_per_second"].astype(float)

    models = frame.drop_duplicates("family").set_index("family")["model"]
    return {f: paired_ratio(rates(judged_mlp(frame)), rates(models[f])) for f in COMPETITORS if f in models}


def times(part: Estimate) -> str:
    """A ratio in words' space: 131, or 2.5."""
    return f"{part.mean:.0f}" if part.mean >= 10 else f"{part.mean:.1f}"


def reach(frame: pd.DataFrame, kind: str) -> tuple[str, str]:
    """The least and the most of `ratios` of one kind over the networks, as text."""
    return ends([by_kind[kind] for by_kind in ratios(frame).values()])


def ends(parts: Iterable[Estimate]) -> tuple[str, str]:
    """The least and the greatest mean, as text."""
    ordered = sorted(parts, key=lambda part: part.mean)
    return (times(ordered[0]), times(ordered[-1])) if ordered else ("not measured", "not measured")


def times_cheaper(frame: pd.DataFrame) -> Figure:
    """`ratios`, a row a network, on a logarithmic axis; the rule's bound is dashed."""
    figure, axis = plt.subplots(figsize=(WIDTH, 2.8))
    found = ratios(frame)
    if not found:
        say_not_run(axis)
        plt.close(figure)
        return figure
    batch = common_batch(frame)
    texts = {"images/s": f"images/s, {batch} a batch", "FLOPs": "FLOPs an image", "one image alone": "one image alone"}
    for kind, lift in zip(MARKERS, (0.22, 0.0, -0.22), strict=True):
        for row, (family, by_kind) in enumerate(found.items()):
            part, y = by_kind[kind], len(found) - 1 - row + lift
            low, high = part.interval or (part.mean, part.mean)
            style = dict(color=FAMILY_COLOURS[family], marker=MARKERS[kind], mfc="white" if lift < 0 else None)
            axis.plot([low, high], [y, y], color=FAMILY_COLOURS[family], lw=2)
            axis.plot(part.mean, y, ls="", ms=7, **style)
            axis.annotate(times(part), (high, y), (7, 0), textcoords="offset points", va="center", fontsize=8)
        axis.plot(
            [], [], ls="", color="#555555", marker=MARKERS[kind], mfc="white" if lift < 0 else None, label=texts[kind]
        )
    axis.axvline(FAR, color="#777777", ls="--", lw=1)
    axis.annotate(
        "the rule's bound",
        (FAR, 1),
        (4, -10),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        fontsize=8,
        color="#555555",
    )
    means = [part.mean for by_kind in found.values() for part in by_kind.values()]
    names = [frame.loc[frame["family"] == family, "model"].iloc[0] for family in found]
    axis.set_yticks(range(len(names) - 1, -1, -1), names)
    axis.set(
        xscale="log",
        xlim=(0.8 * min(1.0, *means), 1.7 * max(means)),
        ylim=(-0.6, len(names) - 0.4),
        xlabel="times (logarithmic)",
        title=f"What others cost, in times of {judged_mlp(frame)}",
    )
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    plt.close(figure)
    return figure


def rates_of(one: Measurement) -> tuple[float, float]:
    """The machine's own two rates, medians over rounds: FLOPs a second of a matrix product, and bytes read a second."""
    return (
        float(np.median([turn.matmul_flops_per_second for turn in one.rounds])),
        float(np.median([turn.read_bytes_per_second for turn in one.rounds])),
    )


def crossing(one: Measurement) -> float:
    """Images a batch from which an MLP is bound by computing and no more by reading: 4 bytes and 2 FLOPs a weight."""
    matmul, read = rates_of(one)
    return 2 * matmul / read


def throughput(one: Measurement | None, frame: pd.DataFrame) -> Figure:
    """Images/s against the batch size, a line a network with 95% bands over rounds; dotted, what reading the weights
    and computing would allow the largest MLP."""
    figure, axis = plt.subplots(figsize=(WIDTH, 3.6))
    if one is None:
        say_not_run(axis)
        plt.close(figure)
        return figure
    styles = iter(STYLES)
    for model, rows in sorted(frame.groupby("model", sort=False), key=lambda pair: -pair[1]["parameters"].iloc[0]):
        family = rows["family"].iloc[0]
        by_batch = rows.pivot_table(index="seed", columns="batch_size", values="images_per_second")
        mean, bounds = by_batch.mean(), by_batch.apply(t_bounds)
        style = next(styles, ":") if family in MLPS else "-"
        axis.plot(mean.index, mean, color=FAMILY_COLOURS[family], ls=style, marker="o", ms=4, label=model)
        axis.fill_between(
            mean.index, bounds.iloc[0].clip(lower=1e-9), bounds.iloc[1], color=FAMILY_COLOURS[family], alpha=0.15, lw=0
        )
    largest = frame[frame["model"] == judged_mlp(frame)]
    batches = np.geomspace(largest["batch_size"].min(), largest["batch_size"].max(), 50)
    flops, weights = float(largest["flops"].iloc[0]), float(largest["weight_bytes"].iloc[0])
    allowed = batches / bound_seconds(flops, weights, batches, *rates_of(one))
    axis.plot(batches, allowed, color="#222222", ls=(0, (1, 1.5)), lw=1.4, label=f"bound of {judged_mlp(frame)}")
    low = float(frame.groupby(["model", "batch_size"])["images_per_second"].mean().min())
    axis.set(
        xscale="log",
        yscale="log",
        ylim=(low / 2, None),
        xlabel="images a batch (logarithmic)",
        ylabel="images per second (logarithmic)",
    )
    axis.set_title("Images per second by batch size", fontsize=10)
    for which in (axis.xaxis, axis.yaxis):
        which.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_xticks(sorted(set(frame["batch_size"])))
    axis.minorticks_off()
    label_ends(axis)
    plt.close(figure)
    return figure


def latencies(one: Measurement, model: str) -> np.ndarray:
    """Seconds of every call with one image, of all rounds."""
    return np.array([seconds for turn in one.rounds for seconds in turn.seconds[model].get(1, [])])


def table_of_costs(one: Measurement | None, frame: pd.DataFrame) -> pd.DataFrame:
    """A row a network: what is exact, activations and images/s at the largest common batch size, and the median of
    one image alone with its quartiles."""
    if one is None:
        return pd.DataFrame(columns=["network", "parameters, M"])
    batch, rows = common_batch(frame), []
    for model, own in frame.groupby("model", sort=False):
        at = own[own["batch_size"] == batch]
        first, calls = at.iloc[0], 1000 * latencies(one, model)
        quartiles = np.percentile(calls, [25, 50, 75]) if len(calls) else [float("nan")] * 3
        rows.append(
            {
                "network": model,
                "parameters, M": f"{first['parameters'] / 1e6:.1f}",
                "multiply-adds, M": f"{first['macs'] / 1e6:,.0f}",
                "a parameter": f"{first['macs'] / first['parameters']:.0f}",
                "activations, MB": three(first["activation_bytes"] / 1e6),
                "images/s [95%]": _rate(t_interval(at["images_per_second"])),
                "one image, ms": f"{three(quartiles[1])} [{three(quartiles[0])}, {three(quartiles[2])}]",
            }
        )
    return pd.DataFrame(rows)


def table_of_bounds(one: Measurement | None, frame: pd.DataFrame, batches: Sequence[int] = ()) -> pd.DataFrame:
    """For every network at these batch sizes (one image and the largest common one where none are named): the least
    milliseconds by reading its weights once and by computing, and the median measured."""
    if one is None:
        return pd.DataFrame(columns=["network", "images"])
    rates, rows = rates_of(one), []
    for (model, batch), own in frame.groupby(["model", "batch_size"], sort=False):
        if batch not in (batches or (1, common_batch(frame))):
            continue
        reading = float(own["weight_bytes"].iloc[0]) / rates[1]
        computing = float(own["flops"].iloc[0]) * batch / rates[0]
        measured = float(own["latency"].median())
        rows.append(
            {
                "network": model,
                "images": batch,
                "reading the weights, ms": three(1000 * reading),
                "computing, ms": three(1000 * computing),
                "bound by": "reading" if reading > computing else "computing",
                "measured, ms": three(1000 * measured),
                "of the bound's speed": f"{max(reading, computing) / measured:.0%}",
            }
        )
    return pd.DataFrame(rows)


def table_of_ratios(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a network and an MLP, the largest and the nearest in parameters: how many times cheaper the MLP is."""
    rows = []
    for family in ratios(frame):
        for mlp in dict.fromkeys((judged_mlp(frame), nearest_mlp(frame, family))):
            sizes = frame.drop_duplicates("model").set_index("model")["parameters"]
            other = frame.loc[frame["family"] == family, "model"].iloc[0]
            batches = sorted(set(frame.loc[frame["model"] == other, "batch_size"]))
            rows.append(
                {
                    "network": other,
                    "MLP": mlp,
                    "parameters, MLP over network": f"{sizes[mlp] / sizes[other]:.2f}",
                    "times fewer FLOPs": times(flops_ratio(frame, family, mlp)),
                    **{
                        f"times more images/s at {batch} [95%]": throughput_ratio(frame, family, mlp, batch).text()
                        for batch in batches
                    },
                }
            )
    return pd.DataFrame(rows)


def three(value: float) -> str:
    """A number to three figures or to the unit, whichever is finer: rates of these networks differ by factors of
    hundreds."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _rate(estimate: Estimate) -> str:
    ends_ = "" if estimate.interval is None else f" [{', '.join(map(three, estimate.interval))}]"
    return three(estimate.mean) + ends_
