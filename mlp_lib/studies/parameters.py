"""What a reader may ask of any chapter; each study adds its own. Checked before anything is trained."""

from dataclasses import fields, replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlp_lib.architectures import family_of
from mlp_lib.errors import UserError


class Parameters(BaseModel):
    """The parameters that every chapter has."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    preset: Literal["auto", "smoke", "laptop", "overnight", "gpu", "paper"] = "auto"
    train: bool = Field(True, description="train what the records lack")
    budget_minutes: float = Field(30.0, ge=0, description="stop, with checkpoints, when these have passed")

    @property
    def changes(self) -> dict[str, Any]:
        """What the study's own parameters change in its preset; None changes nothing."""
        return {name: getattr(self, name) for name in type(self).model_fields if name not in Parameters.model_fields}


def preset_with(presets: dict[str, Any], name: str, changes: dict[str, Any]) -> Any:
    """The preset of that name (a frozen dataclass) with its fields replaced by `changes`; None changes nothing.

    A data set other than the preset's comes whole unless `subset` is given too. Where the preset has `models`, a change
    of `model` replaces its B-MLP, so that a reader can put any MLP in its place. Raises UserError for an unknown
    preset or field, and for an empty list.
    """
    if name not in presets:
        raise UserError(f"unknown preset {name!r}; there are: {', '.join(presets)}")
    chosen = presets[name]
    changes = {k: v for k, v in changes.items() if v is not None}
    if "model" in changes and hasattr(chosen, "models"):
        model = changes.pop("model")
        changes["models"] = tuple(model if family_of(m) == "B-MLP" else m for m in chosen.models)
    known = [field.name for field in fields(chosen)]
    unknown = sorted(set(changes) - set(known))
    if unknown:
        raise UserError(f"unknown parameter {unknown[0]!r}; there are: {', '.join(known)}")
    for field, value in changes.items():
        if isinstance(value, tuple | list) and not value:
            raise UserError(f"{field} is empty; give at least one value, or leave it out")
    if changes.get("dataset", getattr(chosen, "dataset", None)) != getattr(chosen, "dataset", None):
        changes.setdefault("subset", None)
    return replace(chosen, **changes)


def validated(kind: type[Parameters], values: dict[str, Any]) -> Parameters:
    """The values as `kind`. Raises UserError: one line that names the parameter and what it may be."""
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            allowed = ", ".join(kind.model_fields)
            raise UserError(f"unknown parameter {name!r}; this chapter takes: {allowed}") from None
        message = first["msg"][0].lower() + first["msg"][1:]
        raise UserError(f"parameter {name}={first['input']!r}: {message}") from None
