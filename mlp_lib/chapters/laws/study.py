"""RQ3: do MLPs follow power laws, and where do they deviate? (claims 5 and 6)

The runs are those of `chapters.scaling`, which chapter RQ4 reads too: whoever trains one chapter has both.

    python -m mlp_lib study rq3-laws --preset laptop    # 210 runs, about 23 minutes on two CPU cores
"""

from mlp_lib.chapters import scaling, scaling_grids
from mlp_lib.chapters.laws.rules import RULE_CHANGES, RULES
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
)
