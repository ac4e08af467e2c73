"""`Run`: what one training is. Immutable, validated, and named by a key.

How a run is executed (device, threads, precision, logging, accumulation) is not part of it: that stands in the
record.
"""

import difflib
import hashlib
import json
from collections.abc import Iterable
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator

from mlp_lib.datasets import DRAWN, FACTS, canonical_name, facts, train_count
from mlp_lib.datasets.names import is_user_set
from mlp_lib.errors import UserError
from mlp_lib.paths import brief
from mlp_lib.records import architectures

# Raise a group's number when its numerics are corrected: runs made from then on get other keys, and old records are
# seen as old. Version 1 is left out of keys.
RECIPES = {"data": 1, "model": 1, "augment": 1, "optimizer": 1, "train": 1}

BETAS = {"lion": (0.9, 0.99), "adamw": (0.9, 0.999)}  # Chen et al. 2023; Loshchilov and Hutter 2019
AUGMENTATIONS = ("flip", "crop", "pad", "mixup")
MOST_STEPS = 10**9  # of epochs and of steps: more is a slip of the keyboard
MODEL_OPTIONS = ("activation", "norm", "norm_position", "skip", "bottleneck", "block_form")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class Init(_Frozen):
    """Where a run's weights start: the weights of another run, which is part of this one's identity."""

    run: "Run" = Field(description="the training whose weights are taken")
    epoch: int | None = Field(None, ge=1, description="the parent's epoch to take; its last when absent")
    transform: Literal["same", "new_head"] = Field("same", description="new_head: keep all but the head")


class Run(_Frozen):
    """One training. Defaults are the paper's from-scratch recipe where it states one (LION, 5e-5, smoothing 0.3).

    Defaults are frozen for good: a key hashes only the fields that differ from them.
    """

    model: str = Field(description=f"architecture by name: {architectures.EXAMPLES}")
    activation: Literal["relu", "gelu"] | None = Field(None, description="nonlinearity; family's own when absent")
    norm: Literal["layer", "batch", "none"] | None = Field(None, description="normalisation; family's own when absent")
    norm_position: Literal["pre", "post"] | None = Field(None, description="norm before or after the block")
    skip: bool | None = Field(None, description="residual connection around each block")
    bottleneck: bool | None = Field(None, description="inverted bottleneck instead of the plain block")
    block_form: Literal["text", "code"] | None = Field(None, description="plain block: sigma(W LN z) or W sigma(LN z)")
    dropout: float = Field(0.0, ge=0, lt=1, description="inside each MLP block")

    dataset: str = Field(
        description="digits, digits-32, shapes, shapes-centred, shapes-near, shapes-moved, cifar10, cifar100, "
        "fashion-mnist, stl10, tinyimagenet; or a set of your own under the data root: npz:NAME, or "
        "folder:NAME[@PIXELS]"
    )
    subset: int | None = Field(None, ge=1, description="training examples, class-proportional; all when absent")
    fresh: bool = Field(False, description="drawn sets only: new images every epoch, none twice")
    data_seed: int = Field(0, ge=0, lt=2**63, description="fresh only: of the images, apart from that of the model")
    split: Literal["holdout", "all"] = Field("holdout", description="hold a fixed tenth of train out, or use it all")
    resolution: int | None = Field(None, ge=4, le=512, description="pixels a side; the data set's own when absent")
    permute_seed: int | None = Field(None, ge=0, lt=2**63, description="one permutation of all pixels")

    augment: str = Field("none", description="none, or parts of flip+crop+pad+mixup")
    crop_scale: float = Field(0.08, gt=0, le=1, description="crop: least share of the image's area")
    crop_ratio: float = Field(4 / 3, ge=1, description="crop: greatest aspect ratio; the least is its inverse")
    pad: int = Field(4, ge=1, description="pad: pixels added on each side before a crop of the original size")
    mixup_alpha: float = Field(0.8, gt=0, description="mixup: Beta(alpha, alpha), one draw a batch")

    optimizer: Literal["lion", "sgd", "adamw"] = Field("lion", description="update rule")
    lr: float = Field(5e-5, gt=0, description="peak learning rate")
    body_share: float = Field(1.0, ge=0, description="fine-tuning: lr of all but the head, as a share of lr")
    weight_decay: float = Field(0.0, ge=0, description="decoupled for lion and adamw, L2 for sgd")
    momentum: float = Field(0.9, ge=0, lt=1, description="sgd only")
    beta1: float | None = Field(None, ge=0, lt=1, description="lion (0.9) and adamw (0.9) only")
    beta2: float | None = Field(None, ge=0, lt=1, description="lion (0.99) and adamw (0.999) only")
    schedule: Literal["constant", "cosine", "linear"] = Field("constant", description="after warm-up, to zero")
    warmup_steps: int = Field(0, ge=0, le=MOST_STEPS, description="linear warm-up")
    clip: float | None = Field(None, gt=0, description="greatest gradient norm")
    label_smoothing: float = Field(0.3, ge=0, lt=1, description="of the training loss only")

    batch_size: int = Field(128, ge=1, description="examples an update; a last smaller batch is dropped")
    epochs: int | None = Field(None, ge=1, le=MOST_STEPS, description="passes over the training part; this or steps")
    steps: int | None = Field(None, ge=1, le=MOST_STEPS, description="updates; this or epochs")
    seed: int = Field(0, ge=0, lt=2**63, description="of initialisation, order, augmentation and dropout")
    init: Init | None = Field(None, description="start from another run's weights")
    recipes: dict[str, int] = Field({}, description="versions of the numerics where they are not the first")

    @model_validator(mode="before")
    @classmethod
    def _stamp(cls, values: Any, info: ValidationInfo) -> Any:
        stored = bool(info.context and info.context.get("stored"))
        if stored or not isinstance(values, dict) or "recipes" in values:
            return values
        unused = {"augment"} if values.get("augment", "none") == "none" else set()
        current = {group: v for group, v in RECIPES.items() if v > 1 and group not in unused}
        return {**values, "recipes": current}

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        arch = architectures.parse(self.model)
        batch_norm = architectures.uses_batch_norm(arch, self.model_options)
        if not arch.is_mlp and self.dropout:
            raise UserError(f"dropout belongs to the MLP blocks; a {arch.family} takes none")
        self._set("model", arch.name)
        if not (info.context and info.context.get("stored") and is_user_set(self.dataset)):
            self._set("dataset", canonical_name(self.dataset))
        self._set("augment", _canonical_augment(self.augment))
        for field, default in architectures.FAMILY_DEFAULTS[arch.family].items():
            self._same_as_absent(field, default)
        parts = self.augment.split("+")
        for field, part in {"crop_scale": "crop", "crop_ratio": "crop", "pad": "pad", "mixup_alpha": "mixup"}.items():
            self._only_with(field, part in parts, f"{part!r} in augment")
        self._only_with("data_seed", self.fresh, "fresh")
        self._only_with("body_share", self.init is not None, "init: a body that starts from random weights")
        self._only_with("momentum", self.optimizer == "sgd", "optimizer=sgd")
        self._only_with("beta1", self.optimizer != "sgd", "optimizer lion or adamw")
        self._only_with("beta2", self.optimizer != "sgd", "optimizer lion or adamw")
        if self.optimizer in BETAS:
            self._same_as_absent("beta1", BETAS[self.optimizer][0])
            self._same_as_absent("beta2", BETAS[self.optimizer][1])
        if (self.epochs is None) == (self.steps is None):
            raise UserError("give either epochs or steps")
        if self.batch_size == 1 and batch_norm:
            raise UserError("batch_size=1: BatchNorm needs at least 2 examples in a batch, or take another norm")
        stored = bool(info.context and info.context.get("stored"))
        sets = [self.dataset] if self.init is None else [self.dataset, self.init.run.dataset]
        # A stored run is what it was, whatever has become of the reader's own images since.
        if not stored or not any(is_user_set(name) and name not in FACTS for name in sets):
            self._check_against_data(arch)
        if any(group not in RECIPES or version < 2 for group, version in self.recipes.items()):
            raise UserError(f"recipes={self.recipes}: versions from 2 up of {', '.join(RECIPES)}; best left out")
        return self

    def _check_against_data(self, arch: architectures.Architecture) -> None:
        architectures.check_resolution(arch, self.pixels)
        if self.fresh and self.dataset not in DRAWN:
            raise UserError(
                f"fresh: {self.dataset} has no more images than it has; those of {', '.join(DRAWN)} are drawn"
            )
        count = train_count(self.dataset, self.split, self.subset)
        self._same_as_absent("resolution", facts(self.dataset).resolution)
        self._same_as_absent("subset", train_count(self.dataset, self.split, None))
        if self.batch_size > count:
            raise UserError(
                f"batch_size={self.batch_size} is larger than the training part of {self.dataset} "
                f"({count} examples); use a batch of at most {count}"
            )
        if "pad" in self.augment.split("+") and self.pad > self.pixels:
            raise UserError(f"pad={self.pad}: crops would miss the image; take at most its {self.pixels} pixels")
        if self.warmup_steps > self.total_steps:
            raise UserError(f"warmup_steps={self.warmup_steps} is longer than the training ({self.total_steps} steps)")
        if self.init:
            own, parents = facts(self.dataset).channels, facts(self.init.run.dataset).channels
            if own != parents:
                raise UserError(
                    f"init: a network of {self.init.run.dataset} sees {parents} channels, and {self.dataset} has "
                    f"{own}; start from another"
                )
        if self.init and self.init.epoch is not None:
            last = self.init.run.total_steps // self.init.run.steps_per_epoch
            if self.init.epoch > last:
                raise UserError(f"init.epoch={self.init.epoch}: the parent is trained for {last}; take 1 to {last}")

    def _set(self, field: str, value: Any) -> None:
        object.__setattr__(self, field, value)  # canonical spelling, during validation only

    def _same_as_absent(self, field: str, value: Any) -> None:
        if getattr(self, field) == value:
            self._set(field, None)  # one training, one key: a default that is spelled out counts as left out

    def _only_with(self, field: str, condition: bool, what: str) -> None:
        if not condition and getattr(self, field) != type(self).model_fields[field].default:
            raise UserError(f"{field}={getattr(self, field)} has no effect without {what}; leave it out")

    @property
    def model_options(self) -> dict[str, Any]:
        """The architecture options as `build` takes them; None means the family's default."""
        return {name: getattr(self, name) for name in MODEL_OPTIONS}

    @property
    def betas(self) -> tuple[float, float]:
        """LION's and AdamW's decay rates of the averages."""
        first, second = BETAS[self.optimizer]
        return (first if self.beta1 is None else self.beta1, second if self.beta2 is None else self.beta2)

    @property
    def pixels(self) -> int:
        """The resolution that the model sees."""
        return self.resolution or facts(self.dataset).resolution

    @property
    def train_examples(self) -> int:
        return train_count(self.dataset, self.split, self.subset)

    @property
    def steps_per_epoch(self) -> int:
        return self.train_examples // self.batch_size

    @property
    def total_steps(self) -> int:
        return self.steps if self.steps is not None else self.epochs * self.steps_per_epoch

    @cached_property
    def key(self) -> str:
        """Twelve hex digits: the hash of what differs from the defaults. Equal for equal trainings, on any machine."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()[:12]

    def canonical(self) -> str:
        """Canonical JSON of the fields that differ from their defaults."""
        return json.dumps(self.model_dump(exclude_defaults=True), sort_keys=True, separators=(",", ":"))

    def model_copy(self, **options: Any) -> Self:
        """Not to be had: it would skip validation and keep the old key. Raises TypeError; `but` copies a run."""
        raise TypeError("a Run is copied by `but`, which validates it")

    def but(self, **changes: Any) -> "Run":
        """A copy with other fields, validated anew and made by the recipes of today; its parent stays as it is."""
        same = self.model_dump(exclude_defaults=True, exclude={"recipes", "init"})
        return make_run(**{**same, "init": self.init, **changes})


def make_run(**fields: Any) -> Run:
    """A validated Run. Raises UserError: one line that names the field, its value and what it may be."""
    try:
        return Run(**fields)
    except ValidationError as error:
        raise UserError(_one_line(error)) from None


def _canonical_augment(text: str) -> str:
    parts = [p.strip() for p in text.split("+")]
    if parts == ["none"]:
        return "none"
    for part in parts:
        if part not in AUGMENTATIONS:
            allowed = ", ".join(AUGMENTATIONS)
            raise UserError(f"augment={text!r}: {part!r} is not known; write none, or join with '+' any of: {allowed}")
    return "+".join(a for a in AUGMENTATIONS if a in parts)


def _one_line(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "run"
    if first["type"] == "extra_forbidden":
        fields = Init.model_fields if first["loc"][-2:-1] == ("init",) else Run.model_fields
        near = difflib.get_close_matches(str(first["loc"][-1]), fields, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return f"unknown field {field!r}; {hint}the fields are: {', '.join(fields)}"
    if first["type"] == "missing":
        return f"{field} is missing; give it, for example {field}={'B-6/Wi-256' if field == 'model' else 'cifar10'}"
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return message
    named = field if isinstance(first["input"], dict) else f"{field}={brief(first['input'])}"
    return f"{named}: {message[0].lower()}{message[1:]}"


def with_parents(runs: Iterable[Run]) -> dict[str, Run]:
    """The runs and everything they start from, parents first, by key."""
    ordered: dict[str, Run] = {}

    def visit(run: Run) -> None:
        if run.key not in ordered:
            if run.init:
                visit(run.init.run)
            ordered[run.key] = run

    for run in runs:
        visit(run)
    return ordered
