"""Which measures can be taken of which runs, from the run alone: plans ask for it. What they are stands in take.py."""

from mlp_lib import datasets
from mlp_lib.records import architectures
from mlp_lib.records.run import Run

TARGETS = ("digits", "digits-32", "cifar10", "cifar100")  # data sets on which features are read
READERS = ("probe", "trained_probe", "low_shot")  # measures that read features, by the beginning of their names


def target_of(name: str) -> str | None:
    """The data set on which a measure reads features; None of a measure that does not."""
    return next((name.removeprefix(f"{reader}_") for reader in READERS if name.startswith(f"{reader}_")), None)


def obstacle(name: str, run: Run) -> str | None:
    """Why this measure cannot be taken of this run, or of any like it: one line. None where it can be."""
    if name.startswith("first_layer"):
        if not architectures.parse(run.model).is_mlp:
            return f"{name} looks at the embedding of an MLP, and {run.model} starts with a convolution"
        if name != "first_layer" and run.init is not None:
            return f"{name} looks at random weights, and run {run.key} starts from another run's weights"
    if target := target_of(name):
        own, others = datasets.facts(run.dataset).channels, datasets.facts(target).channels
        if own != others:
            return f"{name}: a model of {run.dataset} sees {own} channels, and {target} has {others}"
    return None


def applicable(names: tuple[str, ...], run: Run) -> tuple[str, ...]:
    """Those of the measures that can be taken of this run: a study asks the same of all its runs."""
    return tuple(name for name in names if obstacle(name, run) is None)
