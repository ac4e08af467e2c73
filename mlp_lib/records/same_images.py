"""One name, one set of images: the rule that keeps numbers from different images apart in a store."""

from collections.abc import Iterable

from mlp_lib.datasets import FACTS, at_hand, load
from mlp_lib.datasets.names import is_user_set
from mlp_lib.errors import UserError
from mlp_lib.records.run import Run, with_parents
from mlp_lib.records.store import Store


def check_images(runs: Iterable[Run], store: Store) -> None:
    """Raises UserError where a reader's own images, on which these runs or their parents are trained, are not those
    that records under the same name in the store were trained on: their numbers would stand beside each other.

    The project's own sets are checked when they are read.
    """
    names = {run.dataset for run in with_parents(runs).values()}
    names = {name for name in names if is_user_set(name) and name not in FACTS and at_hand(name)}
    if not names:
        return
    found = {name: load(name).fingerprint for name in names}
    for record in store:
        name = record.run.dataset
        if record.data and found.get(name, record.data) != record.data:
            raise UserError(
                f"the images of {name} are not those that run {record.run.key} was trained on; give them another "
                f"name, or keep their records in another folder (--out) than {store.folder}"
            )
