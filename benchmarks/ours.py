"""The training loop of `mlp_lib.train` beside a bare one, in both precisions, and this process's matrix products."""

import itertools
from collections.abc import Callable
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.timing import Round, endless, medians, steady, take_turns
from mlp_lib.datasets import facts
from mlp_lib.models import build_for
from mlp_lib.records.run import Run
from mlp_lib.sweeps import costs
from mlp_lib.training import loaders, optim
from mlp_lib.training import loop as train
from mlp_lib.training.how import How
from mlp_lib.training.timing import faster_precision

PRECISIONS = ("fp32", "bf16")
Step = Callable[[], None]


def random_data(run: Run, device: torch.device) -> loaders.Data:
    """Random images of the run's data set's size, resident as the real ones are: speed does not see what they show."""
    f = facts(run.dataset)

    def split(count: int) -> loaders.Split:
        images = torch.randint(0, 256, (count, f.channels, run.pixels, run.pixels), dtype=torch.uint8, device=device)
        return loaders.Split(images, torch.randint(0, f.num_classes, (count,), device=device))

    mean, std = (torch.tensor(v, device=device).mul(255).view(-1, 1, 1) for v in (f.mean, f.std))
    return loaders.Data(split(run.train_examples), split(0), split(0), mean, std, None, f.num_classes, "random")


def loop_step(run: Run, data: loaders.Data, precision: str) -> Step:
    """One step of the real loop, loader included: what `train.train` does between two points of its curve."""
    model = build_for(run).to(data.mean.device).train()
    loop = train.Loop(run, model, data, How(), precision, None)
    batches = endless(lambda epoch: loaders.epoch_batches(run, data, epoch))
    return lambda: loop.take_step(next(batches))


def plain_step(run: Run, precision: str, device: torch.device, optimizer=None) -> Callable[[Tensor, Tensor], Tensor]:
    """Forward, backward, update in plain torch, with the run's model and optimiser; returns loss and logits.

    optimizer: makes another one of the parameters. targets: (B, K) probabilities, not smoothed yet.
    """
    model = build_for(run).to(device).train()
    optimizer = optimizer(model.parameters()) if optimizer else optim.make_optimizer(run, model.parameters())

    def step(images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext():
            logits = model(images)
        loss = F.cross_entropy(logits.float(), targets, label_smoothing=run.label_smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach(), logits.detach()

    return step


def bare_step(run: Run, data: loaders.Data, precision: str) -> Step:
    """The same without a loader: one batch of random numbers that is there already."""
    device = data.mean.device
    images = torch.randn(run.batch_size, *data.train.images.shape[1:], device=device)
    targets = torch.full((run.batch_size, data.num_classes), 1 / data.num_classes, device=device)
    step = plain_step(run, precision, device)
    return lambda: step(images, targets)


def loop_beside_bare(run: Run, data: loaders.Data, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Images/s, by round, of the real loop and of the bare one in each precision: `loop_fp32`, `bare_fp32`, ..."""
    device, arms = data.mean.device, {}
    for precision, (name, make) in itertools.product(PRECISIONS, (("loop", loop_step), ("bare", bare_step))):
        arms[f"{name}_{precision}"] = steady(make(run, data, precision), run.batch_size, device, seconds)
    return take_turns(arms, rounds)


def automatic_precision(run: Run, data: loaders.Data, rounds: int, seconds: float) -> dict[str, object]:
    """What `train` would choose for this run, and how fast its loop then is beside the other precision."""
    choice = faster_precision(build_for(run).to(data.mean.device), run, data)
    arms = {p: steady(loop_step(run, data, p), run.batch_size, data.mean.device, seconds) for p in PRECISIONS}
    rates = medians(take_turns(arms, rounds))
    return {"model": run.model, "batch_size": run.batch_size, "choice": choice, **rates}


def utilisation(
    run: Run, data: loaders.Data, precisions: tuple[str, ...], rounds: int, seconds: float
) -> dict[str, dict[str, list[float]]]:
    """FLOP/s by precision and round: of a whole bare step (its true FLOPs), under `step`, and of matrix products."""
    flops = costs.example_cost(run).true * run.batch_size
    device, rates = data.mean.device, {}
    for precision in precisions:
        arms = {"step": steady(bare_step(run, data, precision), flops, device, seconds)}
        arms |= matrix_products(run, precision, device, seconds / 4)
        rates[precision] = take_turns(arms, rounds)
    return rates


def matrix_products(run: Run, precision: str, device: torch.device, seconds: float) -> dict[str, Round]:
    """Products x W' of the run's own layers on its batch, of their weights' gradients, and of two square sizes."""
    model = build_for(run)
    sides = {(m.out_features, m.in_features) for m in model.modules() if isinstance(m, nn.Linear)}
    size = run.batch_size
    forward = {(size, i, o) for o, i in sides if min(o, i) >= 64}  # the head is too thin to be fast
    shapes = forward | {(o, size, i) for size, i, o in forward} | {(n, n, n) for n in (size, 2 * size)}
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    arms = {}
    for m, k, n in sorted(shapes):
        a, b = torch.randn(m, k, device=device, dtype=dtype), torch.randn(n, k, device=device, dtype=dtype)
        arms[f"{m}x{k}x{n}"] = steady(lambda a=a, b=b: F.linear(a, b), 2 * m * k * n, device, seconds)
    return arms
