"""RQ3: do MLPs follow power laws, and where do they deviate? (claims 5 and 6)

The runs are those of `chapters.scaling`, which chapter RQ4 reads too: whoever trains one chapter has both.

    python -m mlp_lib study rq3-laws --preset laptop    # 210 runs, about 23 minutes on two CPU cores
"""

from mlp_lib.chapters import scaling, scaling_grids
from mlp_lib.chapters.laws.rules import JUDGED, RULE_CHANGES, RULES
from mlp_lib.chapters.study import Study

STUDY = Study(
    name="rq3-laws",
    title="Scaling laws: error against compute, parameters and examples",
    page="rq3-laws",
    presets=scaling_grids.GRIDS,
    parameters=scaling_grids.PARAMETERS,
    collect=scaling.collect,
    rules=RULES,
    rule_changes=RULE_CHANGES,
    first_screen={
        **dict.fromkeys(("rq3-verdict-5", "rq3-miss", "rq3-verdict-6", "rq3-difference"), scaling.choices_of(JUDGED)),
        # networks as they start have no learning rate
        **dict.fromkeys(("rq3-start-smallest", "rq3-start-largest"), scaling.choices_of()),
    },
)
