"""How long runs will take, before they start: FLOPs, and rates planned or measured."""

import copy
from collections.abc import Callable, Iterable
from functools import lru_cache

from mlp_lib.errors import UserError
from mlp_lib.machine import usable_cores
from mlp_lib.records.architectures import parse
from mlp_lib.records.run import Run

# FLOP/s of two CPU cores that a plan counts on (fp32, no matrix units): MLPs from width 256 up, MLPs too narrow or
# batches too small for the cores, and the controls, which are convolutions or share their weights between patches.
# The laptop grids are held to these by a test.
PLANNED_RATE = {"wide": 1.5e11, "narrow": 5e10, "convolution": 1e11}


@lru_cache(maxsize=4096)
def _example_cost(model: str, options: tuple, dataset: str, pixels: int):
    from mlp_lib.models.flops import cost_of
    from mlp_lib.records.run import make_run

    return cost_of(make_run(model=model, dataset=dataset, resolution=pixels, steps=1, batch_size=2, **dict(options)))


def example_cost(run: Run):
    """`flops.Cost` of one example of this run, remembered."""
    return _example_cost(*_shape(run))


def _shape(run: Run) -> tuple[str, tuple, str, int]:
    """What the cost of an example depends on."""
    return run.model, tuple(run.model_options.items()), run.dataset, run.pixels


def _known_shape(run: Run) -> tuple | None:
    """`_shape`; None of a run on a set of a reader's own that is not here, or that cannot be read any more."""
    try:
        return _shape(run)
    except UserError:
        return None


def training_flops(run: Run) -> int:
    """Multiplications + additions of the whole training, as `flops.Cost.true` counts them."""
    return example_cost(run).true * run.batch_size * run.total_steps


def recorded(records: Iterable) -> Callable[[Run], int]:
    """`training_flops` of runs, from the records where one has the same network on images of the same shape.

    A page that says what its runs cost then starts without torch; what no record knows is counted as ever. Records are
    drawn only as far as the costs that are asked for need them.
    """
    of_example: dict[tuple, int] = {}
    rest = iter(records)

    def flops(run: Run) -> int:
        shape = _shape(run)
        while shape not in of_example:
            if (record := next(rest, None)) is None:
                return training_flops(run)
            if record.status == "ok" and (known := _known_shape(record.run)):
                of_example.setdefault(known, record.train_flops // (record.steps * record.run.batch_size))
        return of_example[shape] * run.batch_size * run.total_steps

    return flops


def planned_seconds(run: Run, flops: int | None = None) -> float:
    """On two CPU cores by `PLANNED_RATE`: what a reader with the weakest machine in mind should expect.

    flops: of the training, where the caller knows them.
    """
    arch = parse(run.model)
    kind = "convolution" if not arch.is_mlp else "wide" if arch.width >= 256 else "narrow"
    flops = training_flops(run) if flops is None else flops
    return flops / PLANNED_RATE["narrow" if run.batch_size < 64 else kind]


def measured_seconds(runs: Iterable[Run], how=None) -> dict[str, float]:
    """Seconds by run key on this machine, in one process: a few real steps of each distinct shape are timed.

    Evaluation and augmentation are included as a tenth, which is what they cost on the sizes of this study.
    """
    import torch

    from mlp_lib.training.how import How, check_how

    how, seconds, timed = how or How(), {}, {}
    check_how(how)
    threads = torch.get_num_threads()
    try:
        if how.threads:
            torch.set_num_threads(how.threads)
        for run in runs:
            shape = (*_shape(run), run.batch_size)
            if shape not in timed:
                timed[shape] = _step_seconds(run, how)
            seconds[run.key] = 1.1 * timed[shape] * run.total_steps
    finally:
        torch.set_num_threads(threads)
    return seconds


def _step_seconds(run: Run, how) -> float:
    import torch

    from mlp_lib.datasets import facts
    from mlp_lib.models import build_for
    from mlp_lib.training import optim
    from mlp_lib.training.how import pick_device
    from mlp_lib.training.loaders import Batch
    from mlp_lib.training.step import batch_gradient
    from mlp_lib.training.timing import seconds_of

    device = pick_device(how.device)
    f = facts(run.dataset)
    original = build_for(run).to(device)
    images = torch.randn(run.batch_size, f.channels, run.pixels, run.pixels, device=device)
    batch = Batch(images, torch.full((run.batch_size, f.num_classes), 1 / f.num_classes, device=device))
    best = float("inf")
    for precision in ("fp32", "bf16") if how.precision == "auto" else (how.precision,):
        model = copy.deepcopy(original)
        optimizer = optim.make_optimizer(run, optim.parameters_of(run, model))

        def step(model=model, optimizer=optimizer, precision=precision) -> None:
            batch_gradient(model, batch, 1, precision)
            optimizer.step()

        best = min(best, seconds_of(step, device, 0.3))
    return best


def matmul_rate(precision: str, device, seconds: float = 0.3) -> float:
    """FLOP/s of a 2048 x 2048 matrix product in this process: what utilisation is measured against. Of a 512 x 512 one
    where the larger would take more than a second, as in bf16 on a CPU without such units."""
    import torch

    from mlp_lib.training.timing import seconds_of

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32

    def rate(side: int) -> float:
        a = torch.randn(side, side, device=device, dtype=dtype)
        return 2 * side**3 / seconds_of(lambda: a @ a, a.device, seconds)

    small = rate(512)
    return small if 2 * 2048**3 / small > 1 else rate(2048)


def sensible_threads(run: Run) -> int:
    """Threads for one run alone on a CPU: one where a step is too small to share (under about 2 GFLOP), else all."""
    return 1 if example_cost(run).true * run.batch_size < 2e9 else usable_cores()


def human_seconds(seconds: float) -> str:
    """12 s, 3.4 min, 5.0 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
