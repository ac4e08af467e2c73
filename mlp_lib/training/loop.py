"""The training loop: one run, from its first step or from where it was stopped, to its metrics.

The loop never waits for the device: losses are summed there and read every `CHECK_EVERY` steps. A checkpoint is
written at a step's end, at most every `SAVE_SECONDS`; a run that is resumed from it ends with the same metrics, to the
last bit on the same machine, torch, precision and thread count, because nothing random depends on what came before.
"""

import math
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from mlp_lib.errors import UserError
from mlp_lib.models import build_for, has_batch_norm
from mlp_lib.output import say
from mlp_lib.training import loaders, optim
from mlp_lib.training.checkpoints import (
    check_types,
    find_weights,
    read_checkpoint,
    read_weights,
    save_checkpoint,
    save_weights,
)
from mlp_lib.training.evaluate import CURVE_EXAMPLES, evaluate, final_metrics, glimpse
from mlp_lib.training.how import How, prepare
from mlp_lib.training.loaders import Batch, Data
from mlp_lib.training.seeds import device_random_state, set_random_state, stream_seed
from mlp_lib.training.step import batch_gradient
from mlp_lib.training.timing import faster_precision

CHECK_EVERY = 100  # steps between looks at the running loss: a non-finite one stops the run at the same step anywhere
SAVE_SECONDS = 60.0


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
    together: int = 1  # runs trained side by side, see side_by_side.py


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
        torch.manual_seed(stream_seed("dropout", run.seed))
        loop = Loop(run, model, data, how, precision, saved)
        status = take_remaining_steps(loop, weights, keep_epochs, on_progress, should_stop)
    return finish(loop, status, weights, device)


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
        status,
        metrics,
        loop.curve,
        loop.step,
        loop.seconds + time.perf_counter() - loop.started,
        (loop.step - loop.first_step) * run.batch_size / max(loop.loop_seconds, 1e-9),
        str(device),
        loop.precision,
        torch.get_num_threads(),
        loop.accumulate,
        data.fingerprint,
    )
    return outcome, (model.eval() if status == "ok" else None)


class Loop:
    """The state that a checkpoint holds, and the loop over it. `saved` is what `save` wrote, None at the start."""

    def __init__(self, run, model: nn.Module, data: Data, how: How, precision: str, saved: dict[str, Any] | None):
        self.run, self.model, self.data, self.precision = run, model.train(), data, precision
        self.accumulate = how.accumulate
        self.optimizer = optim.make_optimizer(run, optim.parameters_of(run, model))
        self.step, self.seconds, self.curve = 0, 0.0, []
        self.running = torch.zeros((), device=data.mean.device)  # sum of losses since the last point of the curve
        self.running_steps = 0
        if saved:
            try:
                self._restore(saved)
            except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
                reason = " ".join(str(error).split())[:200]
                line = f"checkpoint {run.key}.checkpoint does not fit the run ({reason}); delete it to start over"
                raise UserError(line) from error
        self.first_step, self.loop_seconds = self.step, 0.0
        self.started = self.clock = time.perf_counter()  # since when `seconds` and `loop_seconds` lack what passes

    def _restore(self, saved: dict[str, Any]) -> None:
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.step, self.seconds, self.curve = saved["step"], saved["seconds"], saved["curve"]
        self.running, self.running_steps = saved["running"], saved["running_steps"]
        set_random_state(saved["rng"], saved["cuda_rng"], self.running.device)

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
                say(f"out of memory: the batch of {len(batch.images)} goes through in {self.accumulate} parts")
        if self.run.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.run.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)  # their memory is for the next batch, or for an evaluation
        return loss

    def check_and_keep(self, point: bool, keep: bool, weights: Path) -> bool:
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
            "key": self.run.key,
            "data": self.data.fingerprint,
            "step": self.step,
            "curve": self.curve,
            "precision": self.precision,
            "seconds": self.seconds + time.perf_counter() - self.started,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "running": self.running,
            "running_steps": self.running_steps,
            "rng": torch.get_rng_state(),
            "cuda_rng": device_random_state(self.running.device),  # or that of mps
        }
        save_checkpoint(state, weights / f"{self.run.key}.checkpoint")


def take_remaining_steps(
    loop, weights: Path, keep_epochs, on_progress, should_stop
) -> Literal["ok", "diverged", "paused"]:
    """Take the steps that remain of a `Loop`, or of a `stacked.Stack` of them."""
    total, per_epoch = loop.run.total_steps, loop.run.steps_per_epoch
    points, keep = set(declared_steps(loop.run)), {epoch * per_epoch for epoch in keep_epochs}
    last_save = last_report = loop.clock = time.perf_counter()
    while loop.step < total:
        for batch in loop.batches(*divmod(loop.step, per_epoch)):
            loop.take_step(batch)
            point, kept = loop.step in points, loop.step in keep
            if (loop.step % CHECK_EVERY == 0 or point or kept) and not loop.check_and_keep(point, kept, weights):
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


def initial_model(run, weights: Path) -> nn.Module:
    """The model before its first step: initialised from the seed, or from the parent's weights where `init` says so."""
    model = build_for(run)
    if run.init is None:
        return model
    parent = run.init.run
    name = parent.key if run.init.epoch is None else f"{parent.key}@{run.init.epoch}"
    state = read_weights(find_weights(weights, name))
    if run.init.transform == "new_head":
        state = {k: v for k, v in state.items() if not k.startswith("linear_out.")}
    try:
        check_types(model, state)
        missing, unexpected = model.load_state_dict(state, strict=run.init.transform == "same")
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        message = f"the weights of parent {parent.key} ({parent.model}) do not fit {run.model}: {reason}"
        raise UserError(message) from None
    if unexpected or any(not k.startswith("linear_out.") for k in missing):
        raise UserError(f"the weights of parent {parent.key} ({parent.model}) do not fit {run.model} up to the head")
    return model
