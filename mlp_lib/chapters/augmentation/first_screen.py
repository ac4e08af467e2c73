"""On which choices of a learning rate each value on the first screen of rq2-augmentation rests."""

from collections.abc import Callable, Sequence

from mlp_lib.chapters.rule import Shown
from mlp_lib.chapters.tuning import Choice


def choices_of(*families: str) -> Callable[[Shown], list[Choice]]:
    """The choices of these families, without augmentation and with it."""

    def choices(shown: Shown) -> list[Choice]:
        results = shown.results
        models = results.frame.loc[results.frame["family"].isin(families), "model"].unique()
        return [choice for (model, _), choice in results.choices.items() if model in models]

    return choices


FIRST_SCREEN: dict[str, Callable[[Shown], Sequence[Choice]]] = {
    "augmentation-subset": choices_of(),  # what the study sets, not what it finds
    "augmentation-gain": choices_of("B-MLP"),
    "augmentation-steps": choices_of(),
    "augmentation-between": choices_of("CNN", "B-MLP"),
    "augmentation-between-word": choices_of("CNN", "B-MLP"),
    "augmentation-claim-12": choices_of("B-MLP"),
}
