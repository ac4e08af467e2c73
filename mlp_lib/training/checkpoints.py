"""The folder of weights: final weights and checkpoints by a run's key, each written whole or not at all."""

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from mlp_lib.datasets import FACTS
from mlp_lib.datasets.names import is_user_set
from mlp_lib.errors import UserError
from mlp_lib.paths import check_regular, whats_wrong
from mlp_lib.records.weights import weights_fault
from mlp_lib.training.loaders import load_data

_STATE = {"step", "curve", "precision", "seconds", "model", "optimizer", "running", "running_steps", "rng", "cuda_rng"}


def find_weights(weights: Path, name: str) -> Path:
    """The file of weights `name` (key or key@epoch). Raises UserError when it is not at hand, or not whole."""
    path = weights / f"{name}.safetensors"
    fault = weights_fault(path) if os.path.lexists(path) else "there is no such file"
    if fault:
        raise UserError(f"the weights of run {name} are not at hand ({path}: {fault}); train that run again")
    return path


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of weights. Raises UserError: one line that says what is wrong with the file."""
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:  # safetensors and torch raise many kinds for a damaged file
        reason = weights_fault(path) or whats_wrong(path, error)
        raise UserError(f"weights {path} cannot be read ({reason}); delete them and train that run again") from error


def check_types(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Raises RuntimeError, as `load_state_dict` does, for numbers of another type than the model's: they would be
    rounded to it without a word."""
    own = model.state_dict()
    for name, tensor in state.items():
        if name in own and tensor.dtype != own[name].dtype:
            raise RuntimeError(f"{name} is {tensor.dtype}, not {own[name].dtype}")


def put_weights(model: nn.Module, path: Path) -> None:
    """Fill a model with the weights in a file. Raises UserError for a damaged file, and for another model's."""
    state = read_weights(path)
    try:
        check_types(model, state)
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"weights {path} are of another model: {reason}; delete them and train that run again"
        ) from None


def save_weights(model: nn.Module, path: Path) -> None:
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    _write_whole(path, lambda part: safetensors.torch.save_file(state, part))


def save_origin(training: str, path: Path) -> None:
    """Beside final weights: which training they are from (`records.Record.training`)."""
    _write_whole(path, lambda part: part.write_text(training))


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    def write(part: Path) -> None:
        with part.open("wb") as file:  # by its path, torch's own writer does not say what went wrong
            torch.save(state, file)

    _write_whole(path, write)


def read_checkpoint(
    run, weights: Path, device: torch.device, keep_epochs: Collection[int] = (), precision: str = "auto"
) -> dict | None:
    """The state that `run` goes on from; None where it starts at its first step. Raises UserError for a damaged file,
    for one made with other images, and for one in another precision than the one asked for: a run is of one data set
    and one arithmetic from its first step to its last.

    A checkpoint past an epoch whose weights are wanted since, and are not at hand, is of no use.
    """
    path = weights / f"{run.key}.checkpoint"
    if not os.path.lexists(path):
        return None
    try:
        check_regular(path)
        saved = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file; all mean the same to the user
        reason = whats_wrong(path, error if isinstance(error, OSError) else ValueError(type(error).__name__))
        raise UserError(f"checkpoint {path} cannot be read ({reason}); delete it to start over") from error
    owner = saved.get("key") if isinstance(saved, dict) else None
    if owner != run.key:
        raise UserError(f"checkpoint {path} belongs to run {owner}, not {run.key}; delete it to start over")
    if lacking := sorted(_STATE - saved.keys()):
        raise UserError(f"checkpoint {path} is not whole ({lacking[0]} is missing); delete it to start over")
    if type(saved["step"]) is not int or not 0 <= saved["step"] <= run.total_steps:
        raise UserError(f"checkpoint {path} is damaged (step {saved['step']}); delete it to start over")
    _check_images(run, saved, path, device)
    if precision not in ("auto", saved["precision"]):
        raise UserError(
            f"run {run.key} was begun in {saved['precision']} and {precision} is asked for; go on with "
            f"--precision {saved['precision']}, or delete {path} to start over"
        )
    past = (epoch for epoch in keep_epochs if epoch * run.steps_per_epoch <= saved["step"])
    return saved if all((weights / f"{run.key}@{epoch}.safetensors").exists() for epoch in past) else None


def _check_images(run, saved: dict[str, Any], path: Path, device: torch.device) -> None:
    """Raises UserError where the checkpoint was made with other images than those at hand. One of before this was kept
    is taken on the project's own sets, whose images are checked whenever they are read."""
    known = saved.get("data")
    if known is None and (not is_user_set(run.dataset) or run.dataset in FACTS):
        return
    if known != load_data(run, device).fingerprint:
        said = "was begun with other images" if known else "does not say with which images it was begun"
        raise UserError(
            f"run {run.key} {said} of {run.dataset}: put those back, give the new ones another name, or delete {path} "
            "to start over"
        )


def _write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Write beside, then rename: a file under its own name is whole."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        write(part)
        os.replace(part, path)
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:  # each writer has its own for a full disk
        part.unlink(missing_ok=True)
        cause = error.__context__ if isinstance(error.__context__, OSError) else error
        reason = getattr(cause, "strerror", None) or " ".join(str(cause).split())[:200]
        raise UserError(f"cannot write {path}: {reason}; free some space or choose another --out") from error
