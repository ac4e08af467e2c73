"""RQ5: what pre-training on one data set is worth on another.

A chain is a pre-training on the upstream set, with or without augmentation, and a fine-tuning of its weights on the
target, with a new head. Beside it the same network learns the target from scratch: for as many steps as the
fine-tuning, and for as many as both. Rates are chosen on validation for every model and start: of the pre-training on
the upstream set's own validation part, so that no image of the target chooses it.
"""

from dataclasses import dataclass

import pandas as pd

from mlp_lib.chapters.parameters import TUNING_SEEDS, parameters_of
from mlp_lib.chapters.rule import Shown
from mlp_lib.chapters.study import Study
from mlp_lib.chapters.transfer.presets import (
    AUGMENTED,
    PRE_TRAINED,
    PRESETS,
    SCRATCH_PLAIN,
    Preset,
)
from mlp_lib.chapters.transfer.rules import RULES
from mlp_lib.chapters.tuning import Choice, Ensure, choose_lrs, ended
from mlp_lib.measures.applicable import READERS, TARGETS
from mlp_lib.records.architectures import family_of
from mlp_lib.records.record import FINISHED
from mlp_lib.records.run import Run

Side = tuple[str, str]  # a model, and a start


@dataclass(frozen=True)
class Results:
    """What the chapter shows. `frame`: one row a training on the target. `upstream`: one row a pre-training, with
    `pre_training` (of `PRE_TRAINED`) and `upstream_images`. Choices of rates by model and start."""

    frame: pd.DataFrame
    upstream: pd.DataFrame
    upstream_choices: dict[Side, Choice]
    choices: dict[Side, Choice]

    @property
    def complete(self) -> bool:
        """Every learning rate is chosen, and every run has ended."""
        return ended((*self.upstream_choices.values(), *self.choices.values()), self.frame, self.upstream)

    @property
    def sufficient(self) -> bool:
        """What the rules judge has ended at final rates, with at least three seeds."""
        rows = self.frame[self.frame["judged"]]
        model = rows["model"].iloc[0]
        chosen = all(
            c.final for (name, _), c in (*self.upstream_choices.items(), *self.choices.items()) if name == model
        )
        return chosen and bool(rows["status"].isin(FINISHED).all()) and rows["seed"].nunique() >= 3


def parent_seed(number: int) -> int:
    """The seed of the pre-training that the reported seed of this position starts from. The first are those by which
    the upstream rate was chosen: on the upstream set, so that they are fresh to the target."""
    return TUNING_SEEDS[number] if number < len(TUNING_SEEDS) else number


def collect(preset: Preset, ensure: Ensure) -> Results:
    """The judged model's chains first, then what is varied about them, then the other models."""
    done = [_of_model(model, preset, ensure) for model in preset.models]
    return Results(
        _joined([frame for frame, _, _, _ in done]),
        _joined([upstream for _, upstream, _, _ in done]),
        {side: choice for _, _, chosen, _ in done for side, choice in chosen.items()},
        {side: choice for _, _, _, chosen in done for side, choice in chosen.items()},
    )


def _joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(frames, ignore_index=True)


def _of_model(model: str, preset: Preset, ensure: Ensure) -> tuple[pd.DataFrame, pd.DataFrame, dict, dict]:
    """Frame, upstream frame, upstream choices and choices of one model."""
    starts = preset.starts(model)
    whole = preset.upstream_sizes[-1]
    parents = {start: preset.upstream_run(model, start == AUGMENTED, whole) for start in starts if start in PRE_TRAINED}
    before = choose_lrs(parents, dict.fromkeys(parents, preset.rates(model)), ensure)
    parents = {start: run.but(lr=before[start].lr) for start, run in parents.items()}
    ready = all(choice.final for choice in before.values())

    sides = {start: _target(preset, model, start, preset.judged_size, parents, 0) for start in starts}
    read = ensure if ready else _untrained(ensure)
    choices = choose_lrs(sides, {start: preset.rates(model, start) for start in starts}, read)
    ready = ready and all(choice.final for choice in choices.values())

    judged = model == preset.judged
    rows, upstream = [], []
    stages = [(whole, preset.judged_size, starts)]
    if judged:
        stages += [(whole, size, starts) for size in preset.target_sizes if size != preset.judged_size]
        stages += [(images, preset.judged_size, (AUGMENTED,)) for images in preset.upstream_sizes[:-1]]
    for images, size, of_stage in stages:
        own = {start: run.but(subset=images) for start, run in parents.items() if start in of_stage}
        if size == preset.judged_size:
            upstream.append(_pre_trained(own, preset, ensure, ready))
        runs = [
            _target(preset, model, start, size, own, number).but(lr=choices[start].lr, seed=seed)
            for number, seed in enumerate(preset.seeds)
            for start in of_stage
        ]
        found = _of_final_rates(ensure(runs, train=ready), ready)
        found["start"] = [start for _ in preset.seeds for start in of_stage]
        found["whole_upstream"] = images == whole
        found["upstream_images"] = [own[start].train_examples if start in own else 0 for start in found["start"]]
        found["judged"] = judged and size == preset.judged_size and images == whole
        rows.append(found)
    frame = _joined(rows)
    frame["family"], frame["augmented"] = family_of(model), frame["start"] != SCRATCH_PLAIN
    named = tuple({(model, start): choice for start, choice in chosen.items()} for chosen in (before, choices))
    return frame, _joined(upstream), *named


def _target(preset: Preset, model: str, start: str, size: int, parents: dict[str, Run], number: int) -> Run:
    parent = parents[start].but(seed=parent_seed(number)) if start in PRE_TRAINED else None
    return preset.target_run(model, start, size, parent)


def _pre_trained(parents: dict[str, Run], preset: Preset, ensure: Ensure, ready: bool) -> pd.DataFrame:
    """The pre-trainings that the reported seeds start from, with what probes read from their features."""
    runs = [run.but(seed=parent_seed(i)) for i in range(len(preset.seeds)) for run in parents.values()]
    frame = _of_final_rates(ensure(runs, train=ready, measures=measures_on(preset.target)), ready)
    frame["pre_training"] = [start for _ in preset.seeds for start in parents]
    frame["upstream_images"] = [run.train_examples for run in runs]
    return frame.assign(family=[family_of(run.model) for run in runs])


def _of_final_rates(frame: pd.DataFrame, ready: bool) -> pd.DataFrame:
    """The frame; while a rate is open, its rows say that nothing was run at the rate to be chosen."""
    return frame if ready else frame.assign(status="not run")


def measures_on(target: str) -> tuple[str, ...]:
    """What is read from features: the convex probe, the paper's own, and a few images a class; nothing on a target for
    which there is no such measure."""
    return tuple(f"{reader}_{target}" for reader in READERS) if target in TARGETS else ()


def _untrained(ensure: Ensure) -> Ensure:
    """The same `ensure`, which trains nothing: what starts from an open choice waits for it."""
    return lambda runs, train=True, measures=None: ensure(runs, train=False)


def _of_judged(shown: Shown) -> list[Choice]:
    """The choices behind the judged model's chains and its trainings from scratch."""
    results = shown.results
    model = results.frame.loc[results.frame["judged"], "model"].iloc[0]
    chosen = (*results.upstream_choices.items(), *results.choices.items())
    return [choice for (name, _), choice in chosen if name == model]


def _of_none(shown: Shown) -> list[Choice]:
    """What the study sets, not what it finds."""
    return []


STUDY = Study(
    name="rq5-transfer",
    title="Transfer: pre-training and fine-tuning against training from scratch",
    page="rq5-transfer",
    presets=PRESETS,
    parameters=parameters_of(
        Preset,
        "upstream",
        "target",
        "upstream_sizes",
        "target_sizes",
        "judged_size",
        "upstream_steps",
        "target_steps",
        "batch_size",
        "seeds",
        model=str,
    ),
    collect=collect,
    rules=RULES,
    first_screen={
        **{f"transfer-{name}": _of_none for name in ("images", "target", "upstream")},
        **dict.fromkeys(("transfer-gain", "transfer-claim-8", "transfer-robustness-8"), _of_judged),
        **dict.fromkeys(("transfer-short", "transfer-claim-9", "transfer-robustness-9"), _of_judged),
    },
)
