"""What a reader may ask of any chapter; each study adds its own. Checked before anything is trained."""

from dataclasses import fields, replace
from typing import Any, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from mlp_lib.errors import UserError
from mlp_lib.paths import brief
from mlp_lib.records.architectures import family_of

# Of the runs by which settings are chosen: far from the seeds that are reported. The first where there is one.
TUNING_SEEDS = (1000, 1001, 1002)
TUNING_SEED = TUNING_SEEDS[0]


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


def parameters_of(preset: type, *names: str, **others: Any) -> type[Parameters]:
    """The parameters of a chapter: those of every chapter, fields of its preset's dataclass by name, and `others`, a
    type each. All may be left out: None keeps the preset's own value."""
    hints = get_type_hints(preset)
    own = {name: (hints[name] | None, None) for name in names} | {
        name: (kind | None, None) for name, kind in others.items()
    }
    return create_model("Parameters", __base__=Parameters, **own)


def b_mlp(model: str) -> str:
    """The name, where it is a B-MLP's. Raises UserError for any other: a chapter would show and judge it as a B-MLP."""
    if family_of(model) != "B-MLP":
        raise UserError(f"model={model!r} is no B-MLP; it takes the place of one: name one, for example B-6/Wi-128")
    return model


def preset_with(presets: dict[str, Any], name: str, changes: dict[str, Any]) -> Any:
    """The preset of that name (a frozen dataclass) with its fields replaced by `changes`; None changes nothing.

    A data set other than the preset's comes whole unless `subset` is given too. Where the preset has `models`, a change
    of `model` puts another B-MLP in the place of its own. Raises UserError for an unknown preset or field, a model of
    another family, and an empty list.
    """
    if name not in presets:
        raise UserError(f"unknown preset {name!r}; there are: {', '.join(presets)}")
    chosen = presets[name]
    changes = {k: v for k, v in changes.items() if v is not None}
    if "model" in changes and hasattr(chosen, "models"):
        model = b_mlp(changes.pop("model"))
        changes["models"] = tuple(model if family_of(m) == "B-MLP" else m for m in chosen.models)
    known = [field.name for field in fields(chosen)]
    unknown = sorted(set(changes) - set(known))
    if unknown:
        raise UserError(f"unknown parameter {unknown[0]!r}; there are: {', '.join(known)}")
    for field, value in changes.items():
        if isinstance(value, tuple | list) and not value:
            raise UserError(f"{field} is empty; give at least one value, or leave it out")
        if isinstance(value, tuple | list) and len(set(value)) < len(value):
            raise UserError(f"{field}={list(value)} names a value twice; name each once")
        if field.endswith("seeds") and isinstance(value, tuple | list) and {*TUNING_SEEDS} & {*value}:
            raise UserError(f"{field}: {TUNING_SEED} is the seed by which learning rates are chosen; report fresh ones")
    own = getattr(chosen, "dataset", None)
    if "subset" in known and changes.get("dataset", own) != own:
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
        if first["type"] == "tuple_type":
            text = str(first["input"])[:100]
            raise UserError(
                f'parameter {name}={brief(first["input"])}: give a list, as -y "{name}: [{text}]" to papermill, or '
                f'--set "{name}=[{text}]" on the command line'
            ) from None
        message = first["msg"][0].lower() + first["msg"][1:]
        raise UserError(f"parameter {name}={brief(first['input'])}: {message}") from None
