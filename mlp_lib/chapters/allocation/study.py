"""RQ4: how to divide compute between parameters and examples, and what an inductive bias is worth (claim 7).

The runs are those of `chapters.scaling`, which chapter RQ3 reads too: whoever trains one chapter has both.

    python -m mlp_lib study rq4-allocation --preset laptop    # the runs of rq3-laws
"""

from mlp_lib.chapters import scaling, scaling_grids
from mlp_lib.chapters.allocation.rules import JUDGED, RULE_CHANGES, RULES
from mlp_lib.chapters.study import Study

STUDY = Study(
    name="rq4-allocation",
    title="Parameters or examples, and what an inductive bias is worth",
    page="rq4-allocation",
    presets=scaling_grids.GRIDS,
    parameters=scaling_grids.PARAMETERS,
    collect=scaling.collect,
    rules=RULES,
    rule_changes=RULE_CHANGES,
    first_screen={
        **dict.fromkeys(("rq4-verdict", "rq4-exponent"), scaling.choices_of(JUDGED)),
        **dict.fromkeys(("rq4-price-examples", "rq4-price-compute"), scaling.choices_of(JUDGED, "CNN")),
    },
)
