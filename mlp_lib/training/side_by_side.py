"""Runs that differ only in seed and learning rate, trained side by side: which, whether it pays, and the training.

What a run comes to is what it comes to alone, up to the rounding of batched products.
"""

import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

import torch
from torch import nn

from mlp_lib.models import build_for
from mlp_lib.output import say
from mlp_lib.records import architectures
from mlp_lib.records.run import Run
from mlp_lib.training import loaders
from mlp_lib.training import loop as train
from mlp_lib.training.checkpoints import read_checkpoint
from mlp_lib.training.how import How, check_how, pick_device, prepare
from mlp_lib.training.loaders import Data
from mlp_lib.training.loop import Loop, Outcome
from mlp_lib.training.stacked import Stack
from mlp_lib.training.timing import faster_precision, seconds_of

MOST = 8  # runs side by side where nobody says how many
GAIN = 0.8  # of the time of single steps, which a stacked step must stay below to be chosen unasked
MEASURE_SECONDS = 0.1  # for each of the two


def can_stack(run: Run) -> bool:
    """Whether the run can be trained beside others: nothing in its model draws numbers or keeps statistics, and all of
    it has one learning rate."""
    batch_norm = architectures.uses_batch_norm(architectures.parse(run.model), run.model_options)
    return not batch_norm and run.dropout == 0 and run.body_share == 1


def groups(runs: Iterable[Run], most: int, apart: Callable[[Run], object] = lambda run: None) -> list[list[Run]]:
    """The runs in lists that may be trained together, at most `most` in each, parents before what starts from them.

    In a list all but seed and learning rate is the same, of the runs that theirs start from too. `apart` gives what
    else must be equal.
    """
    alike: dict[tuple, list[Run]] = {}
    for run in runs:
        alike.setdefault((_likeness(run), apart(run)) if can_stack(run) else (run.key,), []).append(run)
    lists = []
    for members in alike.values():
        members.sort(key=lambda run: run.lr)  # those of one rate share an optimiser
        count = -(-len(members) // most)
        lists += [members[i * len(members) // count : (i + 1) * len(members) // count] for i in range(count)]
    return sorted(lists, key=lambda members: _ancestors(members[0]))


def _likeness(run: Run) -> str:
    fields = run.model_dump(exclude_defaults=True, exclude={"seed", "lr", "init"})
    if run.init:
        fields["init"] = [run.init.epoch, run.init.transform, _likeness(run.init.run)]
    return json.dumps(fields, sort_keys=True)


def _ancestors(run: Run) -> int:
    return 1 + _ancestors(run.init.run) if run.init else 0


def arranged(runs: Iterable[Run], how: How, apart: Callable[[Run], object] = lambda run: None) -> Iterator[list[Run]]:
    """The runs in the order and the company in which `how` has them trained; `apart` as for `groups`.

    Where `how.together` is None, lists of several are for CUDA only, and each is measured when its turn comes.
    """
    check_how(how)
    most = how.together or (MOST if pick_device(how.device).type == "cuda" else 1)
    if most == 1 or how.accumulate > 1:  # what does not fit at once does not fit several times
        yield from ([run] for run in runs)
        return
    known: dict[tuple, bool] = {}
    for members in groups(runs, most, apart):
        kind = (_likeness(members[0]), len(members))
        if how.together is None and len(members) > 1 and kind not in known:
            known[kind] = pays(members, how)
        yield from [members] if known.get(kind, True) else ([run] for run in members)


def pays(runs: list[Run], how: How) -> bool:
    """Whether a step of these runs together takes at most `GAIN` of the time of a step of each, measured here and now.

    Raises UserError where their data are missing.
    """
    device = pick_device(how.device)
    data = loaders.load_data(runs[0], device)
    precision = "bf16" if how.precision == "auto" else how.precision
    try:
        loops = [Loop(run, build_for(run).to(device), data, How(), precision, None) for run in runs]
        batches = [next(loop.batches(0, 0)) for loop in loops]
        stack = Stack(loops)
        single = seconds_of(lambda: loops[0].update(batches[0]), device, MEASURE_SECONDS)
        return seconds_of(lambda: stack.update(batches), device, MEASURE_SECONDS) <= GAIN * len(runs) * single
    except torch.OutOfMemoryError:
        return False


def train_together(
    runs: list[Run],
    weights: Path,
    how: How = How(),
    *,
    keep_epochs: Collection[int] = (),
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Iterator[tuple[Run, Outcome, nn.Module | None]]:
    """Train runs of one list of `groups`, each resuming from its own checkpoint, which is that of a single run.

    Those that stand at different steps are taken on one after another. Out of memory: a line says so, and they are
    trained singly. Arguments and errors are those of `loop.train`.

    Yields each run with what `loop.train` would return, when it has ended or is stopped; once one is stopped, those
    that were not begun are not yielded. The seconds of an outcome are the run's share, its images/s are its own.
    """
    device = prepare(how, weights)
    options = {"keep_epochs": keep_epochs, "on_progress": on_progress, "should_stop": should_stop}
    parts: dict[tuple, list[Run]] = {}
    for run in runs:
        saved = read_checkpoint(run, weights, device, keep_epochs, how.precision)
        standing = (saved["step"], saved["precision"]) if saved else (0, how.precision)
        parts.setdefault(standing, []).append(run)
    for (_, precision), part in parts.items():
        stopped = False
        for run, outcome, model in _ends(part, weights, how, precision, device, options):
            yield run, outcome, model
            stopped |= outcome.status == "paused"
        if stopped:
            return


def _ends(part: list[Run], weights: Path, how: How, precision: str, device, options):
    """The ends of runs that stand at one step, as `train_together` yields them."""
    ended = None
    if len(part) > 1 and how.accumulate == 1:
        try:
            ended = _side_by_side(part, weights, precision, loaders.load_data(part[0], device), options)
        except torch.OutOfMemoryError:
            say(f"out of memory: {len(part)} runs do not fit side by side and are trained one by one")
    if ended is None:
        for run in part:
            outcome, model = train.train(run, weights, how, **options)
            yield run, outcome, model
            if outcome.status == "paused":
                return
        return
    for loop, status in ended:
        loop.started = time.perf_counter()  # the wait for those before it is not its own
        outcome, model = train.finish(loop, status, weights, device)
        yield loop.run, outcome._replace(together=len(part)), model


def _side_by_side(runs: list[Run], weights: Path, precision: str, data: Data, options) -> list[tuple[Loop, str]]:
    """The loops of runs that stand at one step, when they have ended or were stopped, each with its status."""
    device = data.mean.device
    with torch.random.fork_rng():
        models = [train.initial_model(run, weights).to(device) for run in runs]
        if precision == "auto":
            precision = faster_precision(models[0], runs[0], data)
        saved = (read_checkpoint(run, weights, device, options["keep_epochs"]) for run in runs)
        loops = [Loop(run, m, data, How(), precision, s) for run, m, s in zip(runs, models, saved, strict=True)]
        stack = Stack(loops)
        status = train.take_remaining_steps(stack, weights, **options)
        if len(stack.loops) == 1:  # the others diverged, and one alone is a run like any other
            (last,) = stack.loops
            status = train.take_remaining_steps(last, weights, **options)
            last.seconds += time.perf_counter() - last.started
        else:
            stack.hand_out()
    return [(loop, "diverged") for loop in stack.lost] + [(loop, status) for loop in stack.loops]
