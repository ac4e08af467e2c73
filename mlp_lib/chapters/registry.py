"""Every chapter of the study, in the book's order. A new chapter is one import and one name here."""

from mlp_lib.chapters.ablations.study import STUDY as ABLATIONS
from mlp_lib.chapters.allocation.study import STUDY as ALLOCATION
from mlp_lib.chapters.augmentation.study import STUDY as AUGMENTATION
from mlp_lib.chapters.batch_size.study import STUDY as BATCH_SIZE
from mlp_lib.chapters.controls.study import STUDY as CONTROLS
from mlp_lib.chapters.from_scratch.study import STUDY as FROM_SCRATCH
from mlp_lib.chapters.inference.study import STUDY as INFERENCE
from mlp_lib.chapters.laws.study import STUDY as LAWS
from mlp_lib.chapters.permutation.study import STUDY as PERMUTATION
from mlp_lib.chapters.rule import Rule
from mlp_lib.chapters.settings.study import STUDY as SETTINGS
from mlp_lib.chapters.study import Study
from mlp_lib.chapters.symmetry.study import STUDY as SYMMETRY
from mlp_lib.chapters.test_time.study import STUDY as TEST_TIME
from mlp_lib.chapters.transfer.study import STUDY as TRANSFER
from mlp_lib.errors import UserError

STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        FROM_SCRATCH,
        SETTINGS,
        CONTROLS,
        PERMUTATION,
        INFERENCE,
        ABLATIONS,
        AUGMENTATION,
        BATCH_SIZE,
        LAWS,
        ALLOCATION,
        SYMMETRY,
        TRANSFER,
        TEST_TIME,
    )
}
RULES: dict[int, Rule] = {number: rule for study in STUDIES.values() for number, rule in study.rules.items()}
RULE_CHANGES = tuple(sorted(change for study in STUDIES.values() for change in study.rule_changes))


def study(name: str) -> Study:
    """The study of that name. Raises UserError, which lists the names, for any other."""
    if name not in STUDIES:
        raise UserError(f"unknown study {name!r}; there are: {', '.join(STUDIES)}")
    return STUDIES[name]
