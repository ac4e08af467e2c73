"""The folder of weights: final weights and checkpoints by a run's key, each written whole or not at all."""

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from mlp_lib.errors import UserError


def find_weights(weights: Path, name: str) -> Path:
    """The file of weights `name` (key or key@epoch). Raises UserError when it is not at hand."""
    path = weights / f"{name}.safetensors"
    if not path.exists():
        raise UserError(f"the weights of run {name} are not at hand ({path}); train that run again to get them")
    return path


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
    and for one in another precision than the one asked for: a run is of one arithmetic from its first step to its last.

    A checkpoint past an epoch whose weights are wanted since, and are not at hand, is of no use.
    """
    path = weights / f"{run.key}.checkpoint"
    if not path.exists():
        return None
    try:
        saved = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file; all mean the same to the user
        kind = type(error).__name__
        raise UserError(f"checkpoint {path} cannot be read ({kind}); delete it to start over") from error
    owner = saved.get("key") if isinstance(saved, dict) else None
    if owner != run.key:
        raise UserError(f"checkpoint {path} belongs to run {owner}, not {run.key}; delete it to start over")
    if precision not in ("auto", saved["precision"]):
        raise UserError(
            f"run {run.key} was begun in {saved['precision']} and {precision} is asked for; go on with "
            f"--precision {saved['precision']}, or delete {path} to start over"
        )
    past = (epoch for epoch in keep_epochs if epoch * run.steps_per_epoch <= saved["step"])
    return saved if all((weights / f"{run.key}@{epoch}.safetensors").exists() for epoch in past) else None


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
