"""The training loop: one run, from its first step or from where it was stopped, to its metrics.

The loop never waits for the device: losses are summed there and read every `CHECK_EVERY` steps. A checkpoint is
written at a step's end, at most every `SAVE_SECONDS`; a run that is resumed from it ends with the same metrics, to the
last bit on the same machine, torch, precision and thread count, because nothing random depends on what came before.
"""

import copy
import math
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, NamedTuple

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlp_lib import augment, loaders, optim
from mlp_lib.errors import UserError
from mlp_lib.loaders import Batch, Data, Split
from mlp_lib.models import build_for, has_batch_norm
from mlp_lib.process import keep_freed_memory
from mlp_lib.weights import find_weights, read_checkpoint, save_checkpoint, save_weights

CHECK_EVERY = 100  # steps between looks at the running loss: a non-finite one stops the run at the same step anywhere
SAVE_SECONDS = 60.0
CURVE_EXAMPLES = 5_000  # training examples, without augmentation, behind each point of a learning curve


class How(NamedTuple):
    """How a run is executed. None of it is part of what the run is."""

    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    threads: int | None = None  # of torch; as torch finds them when None
    accumulate: int = 1  # parts a batch is split into
    together: int | None = None  # runs trained side by side: at most so many; None measures on CUDA and is 1 elsewhere


class Outcome(NamedTuple):
    """What came of a call of `train`. `metrics` is empty unless status is "ok"."""

    status: Literal["ok", "diverged", "paused"]
    metrics: dict[str, float]
    curve: list[dict[str, float]]
    step: int
    seconds: float  # of training and evaluation, over all calls
    images_per_second: float  # of training steps, in this call
    device: str
    precision: str
    threads: int
    accumulate: int
    fingerprint: str
    together: int = 1  # runs trained side by side, see together.py


def pick_device(name: str = "auto") -> torch.device:
    """The device to use: what was asked for, else CUDA, Apple's mps, the CPU. Raises UserError if it is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, found in there.items() if found))
    kind = name.split(":")[0]
    if not there.get(kind, False):
        found = ", ".join(kind for kind, is_there in there.items() if is_there)
        raise UserError(f"device={name!r} is not available here; use one of: auto, {found}")
    return torch.device(name)


def check_precision(name: str) -> None:
    if name not in ("auto", "fp32", "bf16"):
        raise UserError(f"precision={name!r} is not one of: auto, fp32, bf16")


def declared_steps(run) -> list[int]:
    """Steps after which the learning curve gets a point: the ends of epochs 1, 2, 3, 5, 7, 10, 20, ... and the last."""
    per_epoch, total = run.steps_per_epoch, run.total_steps
    series = (m * 10**k for k in range(8) for m in (1, 2, 3, 5, 7))
    return sorted({epoch * per_epoch for epoch in series if epoch * per_epoch < total} | {total})


def train(
    run,
    weights: Path,
    how: How = How(),
    *,
    keep_epochs: Collection[int] = (),
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[Outcome, nn.Module | None]:
    """Train `run`, resuming from `weights/<key>.checkpoint` if there is one.

    Args:
        weights: folder for checkpoints and final weights (`<key>.safetensors`, `<key>@<epoch>.safetensors`).
        keep_epochs: epochs whose weights are kept besides the last, for runs that start from them.
        on_progress: called with (steps done, of how many), at most about once a second.
        should_stop: asked after each step; True writes a checkpoint and returns status "paused".

    Returns the outcome and the trained model (None unless status is "ok"), in fp32 and in evaluation mode.
    Raises UserError for what cannot start: missing data, a checkpoint that is damaged or in another precision than is
    asked for, splitting with BatchNorm.
    """
    device = prepare(how, weights)
    data = loaders.load_data(run, device)
    saved = read_checkpoint(run, weights, device, keep_epochs, how.precision)
    with torch.random.fork_rng():
        model = initial_model(run, weights).to(device)
        if how.accumulate > 1 and has_batch_norm(model):
            raise UserError(f"{run.model} has BatchNorm, whose statistics a split batch would change; use accumulate=1")
        precision = saved["precision"] if saved else how.precision
        if precision == "auto":
            precision = faster_precision(model, run, data)
        torch.manual_seed(augment.stream_seed("dropout", run.seed))
        loop = Loop(run, model, data, how, precision, saved)
        status = go(loop, weights, keep_epochs, on_progress, should_stop)
    return finish(loop, status, weights, device)


def prepare(how: How, weights: Path) -> torch.device:
    """The device to train on, with the process set up for it and a folder for weights."""
    device = pick_device(how.device)
    if device.type == "cpu":
        keep_freed_memory()
    if how.threads:
        torch.set_num_threads(how.threads)
    weights.mkdir(parents=True, exist_ok=True)
    return device


def finish(loop: "Loop", status: str, weights: Path, device: torch.device) -> tuple[Outcome, nn.Module | None]:
    """What `train` returns: the end of a run is measured and its weights are kept."""
    run, model, data, metrics = loop.run, loop.model, loop.data, {}
    if status == "ok":
        metrics = final_metrics(model, data)
        if not all(map(math.isfinite, metrics.values())):  # the last update blew up, after the last loss was seen
            status, metrics = "diverged", {}
    if status == "ok":
        save_weights(model, weights / f"{run.key}.safetensors")
    if status != "paused":
        (weights / f"{run.key}.checkpoint").unlink(missing_ok=True)
    outcome = Outcome(
        status, metrics, loop.curve, loop.step, loop.seconds + time.perf_counter() - loop.started,
        (loop.step - loop.first_step) * run.batch_size / max(loop.loop_seconds, 1e-9), str(device), loop.precision,
        torch.get_num_threads(), loop.accumulate, data.fingerprint,
    )  # fmt: skip
    return outcome, (model.eval() if status == "ok" else None)


class Loop:
    """The state that a checkpoint holds, and the loop over it. `saved` is what `save` wrote, None at the start."""

    def __init__(self, run, model: nn.Module, data: Data, how: How, precision: str, saved: dict[str, Any] | None):
        self.run, self.model, self.data, self.precision = run, model.train(), data, precision
        self.accumulate = how.accumulate
        self.optimizer = optim.make_optimizer(run, model.parameters())
        self.step, self.seconds, self.curve = 0, 0.0, []
        self.running = torch.zeros((), device=data.mean.device)  # sum of losses since the last point of the curve
        self.running_steps = 0
        if saved:
            model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.step, self.seconds, self.curve = saved["step"], saved["seconds"], saved["curve"]
            self.running, self.running_steps = saved["running"], saved["running_steps"]
            torch.set_rng_state(saved["rng"].cpu())
            if saved["cuda_rng"] is not None:
                torch.cuda.set_rng_state(saved["cuda_rng"].cpu())
        self.first_step, self.loop_seconds = self.step, 0.0
        self.started = self.clock = time.perf_counter()  # since when `seconds` and `loop_seconds` lack what passes

    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        return loaders.epoch_batches(self.run, self.data, epoch, start)

    def take_step(self, batch: Batch) -> None:
        """Train on one batch. Nothing here waits for the device."""
        optim.set_learning_rate(self.optimizer, optim.learning_rate(self.run, self.step))
        self.running += self.update(batch)
        self.step += 1
        self.running_steps += 1

    def update(self, batch: Batch) -> Tensor:
        """One step of the optimiser; the loss before it, on the device. Out of memory: the batch is split further."""
        while True:
            try:
                self.optimizer.zero_grad(set_to_none=True)
                loss = batch_gradient(self.model, batch, self.accumulate, self.precision)
                break
            except torch.OutOfMemoryError:
                if self.accumulate >= len(batch.images) or has_batch_norm(self.model):
                    raise
                self.accumulate *= 2
                print(f"out of memory: the batch of {len(batch.images)} goes through in {self.accumulate} parts")
        if self.run.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.run.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)  # their memory is for the next batch, or for an evaluation
        return loss

    def look(self, point: bool, keep: bool, weights: Path) -> bool:
        """After a step: check the running loss, add a point to the curve, keep the weights. False: it is not finite."""
        finite = math.isfinite(self.running.item())  # waits for the device
        self.loop_seconds += time.perf_counter() - self.clock
        if finite and point:
            self._add_point()
        self.clock = time.perf_counter()
        if finite and keep:
            save_weights(self.model, weights / f"{self.run.key}@{self.step // self.run.steps_per_epoch}.safetensors")
        return finite

    def _add_point(self) -> None:
        """A point of the learning curve: epoch, running loss, and clean accuracy on train and validation parts."""
        point = {"epoch": self.step / self.run.steps_per_epoch, "step": self.step}
        point["running_loss"] = (self.running / self.running_steps).item()
        train = glimpse(self.data.train, CURVE_EXAMPLES)
        point |= {f"train_{k}": v for k, v in evaluate(self.model, self.data, train).items()}
        if len(self.data.val.labels):
            point |= {f"val_{k}": v for k, v in evaluate(self.model, self.data, self.data.val).items()}
        if all(map(math.isfinite, point.values())):  # else the run is about to stop, and nan is not JSON
            self.curve.append(point)
        self.running = torch.zeros_like(self.running)
        self.running_steps = 0
        self.model.train()

    def save(self, weights: Path) -> None:
        """Write the checkpoint."""
        state = {
            "key": self.run.key, "step": self.step, "curve": self.curve, "precision": self.precision,
            "seconds": self.seconds + time.perf_counter() - self.started,
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
            "running": self.running, "running_steps": self.running_steps, "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state() if self.running.is_cuda else None,
        }  # fmt: skip
        save_checkpoint(state, weights / f"{self.run.key}.checkpoint")


def go(loop, weights: Path, keep_epochs, on_progress, should_stop) -> Literal["ok", "diverged", "paused"]:
    """Take the steps that remain of a `Loop`, or of a `stack.Stack` of them."""
    total, per_epoch = loop.run.total_steps, loop.run.steps_per_epoch
    points, keep = set(declared_steps(loop.run)), {epoch * per_epoch for epoch in keep_epochs}
    last_save = last_report = loop.clock = time.perf_counter()
    while loop.step < total:
        for batch in loop.batches(*divmod(loop.step, per_epoch)):
            loop.take_step(batch)
            point, kept = loop.step in points, loop.step in keep
            if (loop.step % CHECK_EVERY == 0 or point or kept) and not loop.look(point, kept, weights):
                return "diverged"
            now = time.perf_counter()
            if on_progress and (now - last_report > 1 or loop.step == total):
                on_progress(loop.step, total)
                last_report = now
            stop = loop.step < total and should_stop is not None and should_stop()
            if stop or now - last_save > SAVE_SECONDS:
                loop.save(weights)
                last_save = time.perf_counter()
            if stop:
                loop.loop_seconds += time.perf_counter() - loop.clock
                return "paused"
            if loop.step == total:
                break
    loop.loop_seconds += time.perf_counter() - loop.clock
    return "ok"


def batch_gradient(model: nn.Module, batch: Batch, parts: int, precision: str) -> Tensor:
    """Add the gradient of the batch's mean cross-entropy, computed in `parts` parts; returns that loss."""
    total = torch.zeros((), device=batch.images.device)
    size = len(batch.images)
    for images, targets in zip(batch.images.chunk(parts), batch.targets.chunk(parts), strict=True):
        with _autocast(images.device, precision):
            logits = model(images)  # (B / parts, K)
        loss = F.cross_entropy(logits.float(), targets, reduction="sum") / size
        loss.backward()
        total += loss.detach()
    return total


def initial_model(run, weights: Path) -> nn.Module:
    """The model before its first step: initialised from the seed, or from the parent's weights where `init` says so."""
    model = build_for(run)
    if run.init is None:
        return model
    parent = run.init.run
    name = parent.key if run.init.epoch is None else f"{parent.key}@{run.init.epoch}"
    state = safetensors.torch.load_file(find_weights(weights, name))
    if run.init.transform == "new_head":
        state = {k: v for k, v in state.items() if not k.startswith("linear_out.")}
    try:
        missing, unexpected = model.load_state_dict(state, strict=run.init.transform == "same")
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        message = f"the weights of parent {parent.key} ({parent.model}) do not fit {run.model}: {reason}"
        raise UserError(message) from None
    if unexpected or any(not k.startswith("linear_out.") for k in missing):
        raise UserError(f"the weights of parent {parent.key} ({parent.model}) do not fit {run.model} up to the head")
    return model


@torch.inference_mode()
def evaluate(model: nn.Module, data: Data, split: Split) -> dict[str, float]:
    """top1 and top5 in percent and mean cross-entropy (no smoothing, nats) on a split, in fp32."""
    was_training = model.training
    model.eval()
    totals = torch.zeros(3, device=data.mean.device, dtype=torch.float32 if data.mean.is_mps else torch.float64)
    for images, labels in loaders.plain_batches(data, split):
        logits = model(images).float()  # (B, K)
        ranked = logits.topk(min(5, data.num_classes), dim=1).indices == labels[:, None]  # (B, 5)
        loss = F.cross_entropy(logits, labels, reduction="sum")
        totals += torch.stack([ranked[:, 0].sum(), ranked.sum(), loss])
    model.train(was_training)
    top1, top5, loss = (totals / max(len(split.labels), 1)).tolist()
    return {"top1": 100 * top1, "top5": 100 * top5, "loss": loss}


def glimpse(split: Split, count: int) -> Split:
    """`count` examples of a split: the first of them; where they lie class by class, some of every class."""
    size, labels = len(split.labels), split.labels
    if size <= count or not (labels[1:] >= labels[:-1]).all():
        return Split(split.images[:count], labels[:count])
    spread = torch.arange(count, device=labels.device) * size // count
    return Split(split.images[spread], labels[spread])


def final_metrics(model: nn.Module, data: Data) -> dict[str, float]:
    """Every split, once, after the last step. The only place where test images are looked at."""
    train = glimpse(data.train, 2 * CURVE_EXAMPLES)
    metrics = {f"train_{k}": v for k, v in evaluate(model, data, train).items()}
    if len(data.val.labels):
        metrics |= {f"val_{k}": v for k, v in evaluate(model, data, data.val).items()}
    return metrics | {f"test_{k}": v for k, v in evaluate(model, data, data.test).items()}


def faster_precision(model: nn.Module, run, data: Data, seconds: float = 0.5) -> str:
    """fp32 or bf16, whichever trains this model faster on this machine, measured on a copy for `seconds` each.

    fp32 without more ado for a run so short that the measurement would be a good part of it.
    """
    model = copy.deepcopy(model).train()
    size = min(run.batch_size, 512)
    images = torch.randn(size, *data.train.images.shape[1:], device=data.mean.device)
    batch = Batch(images, torch.full((size, data.num_classes), 1 / data.num_classes, device=images.device))

    def step_seconds(precision: str, limit: float) -> float:
        return seconds_of(lambda: batch_gradient(model, batch, 1, precision), images.device, limit)

    if step_seconds("fp32", 0.0) * run.total_steps < 4 * seconds:
        return "fp32"
    return "bf16" if step_seconds("bf16", seconds) < step_seconds("fp32", seconds) else "fp32"


def _autocast(device: torch.device, precision: str):
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def seconds_of(work: Callable[[], object], device: torch.device, limit: float) -> float:
    """Mean seconds of a call of `work` on `device`: once to warm up, then at least once and for `limit` seconds."""
    work()
    _wait_for(device)
    start, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - start < limit:
        work()
        _wait_for(device)
        count += 1
    return (time.perf_counter() - start) / count


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
