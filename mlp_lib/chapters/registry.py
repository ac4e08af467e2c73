"""Every chapter of the study, in the book's order, and the rules by which the claims are judged."""

from types import ModuleType

from mlp_lib.chapters.augmentation import rules as augmentation_rules
from mlp_lib.chapters.augmentation import study as augmentation
from mlp_lib.chapters.batch_size import rules as batch_size_rules
from mlp_lib.chapters.batch_size import study as batch_size
from mlp_lib.chapters.controls import study as controls
from mlp_lib.chapters.from_scratch import rules as from_scratch_rules
from mlp_lib.chapters.from_scratch import study as rq1
from mlp_lib.chapters.permutation import rules as permutation_rules
from mlp_lib.chapters.permutation import study as permutation
from mlp_lib.chapters.settings import study as settings
from mlp_lib.errors import UserError

STUDIES = {study.NAME: study for study in (rq1, settings, controls, permutation, augmentation, batch_size)}
RULES = {**from_scratch_rules.RULES, **batch_size_rules.RULES, **augmentation_rules.RULES, **permutation_rules.RULES}
RULE_CHANGES = from_scratch_rules.RULE_CHANGES


def study(name: str) -> ModuleType:
    """The study of that name. Raises UserError, which lists the names, for any other."""
    if name not in STUDIES:
        raise UserError(f"unknown study {name!r}; there are: {', '.join(STUDIES)}")
    return STUDIES[name]
