"""The calculator of chapter RQ4: a slider over compute budgets that shows what the joint law recommends."""

import json

import numpy as np
import pandas as pd

from mlp_lib.chapters.allocation.figures import recommendations
from mlp_lib.chapters.allocation.rules import JUDGED, runs_of
from mlp_lib.chapters.scaling import of_family

STEPS = 41  # budgets behind the slider
BEYOND = 30.0  # times the largest compute of a run, at which the slider ends

PAGE = """<div class="budget-calculator">
<label for="budget">Training compute, FLOPs</label>
<input id="budget" type="range" min="0" max="{last}" value="{middle}" step="1" aria-describedby="recommended">
<div id="recommended" role="status" aria-live="polite"></div>
<noscript>The slider needs JavaScript; <code>python -m mlp_lib laws --csv FILE --budget FLOPS</code> says the same.
</noscript>
</div>
<script>
(function () {{
  const rows = {rows};
  const slider = document.getElementById("budget"), shown = document.getElementById("recommended");
  function amount(value) {{
    if (value >= 1e6) return (value / 1e6).toPrecision(3) + " million";
    return Math.round(value).toLocaleString("en");
  }}
  function range(row, name) {{
    return amount(row[name]) + " [" + amount(row[name + "_low"]) + ", " + amount(row[name + "_high"]) + "]";
  }}
  function show() {{
    const row = rows[Number(slider.value)];
    slider.setAttribute("aria-valuetext", row.budget.toExponential(1) + " FLOPs");
    shown.innerHTML = "<strong>" + row.budget.toExponential(1) + " FLOPs</strong>: " + range(row, "params") +
      " parameters, " + range(row, "examples") + " images, " + (100 * row.loss).toFixed(1) + "% validation error" +
      (row.extrapolated > 1 ? "; " + row.extrapolated.toPrecision(2) + " times beyond our largest run" : "") + ".";
  }}
  slider.addEventListener("input", show);
  show();
}})();
</script>"""


def calculator(points: pd.DataFrame) -> str:
    """HTML of the calculator, with its numbers inside: works from the file system and by keyboard. Says so where no law
    could be fitted.

    Budgets are from the smallest compute of a cell to `BEYOND` times the largest; sizes with 95% bootstrap intervals.
    """
    runs = runs_of(of_family(points, JUDGED))
    low, high = (runs["compute"].min(), BEYOND * runs["compute"].max()) if len(runs) else (1.0, 2.0)
    found = recommendations(points, np.geomspace(low, high, STEPS))
    if not found:
        return "<p>No law with an optimum could be fitted to these runs: the calculator needs one.</p>"
    rows = [
        {
            "budget": one.budget,
            "params": one.params,
            "params_low": one.params_interval[0],
            "params_high": one.params_interval[1],
            "examples": one.examples,
            "examples_low": one.examples_interval[0],
            "examples_high": one.examples_interval[1],
            "loss": one.loss,
            "extrapolated": one.extrapolated,
        }
        for one in found
    ]
    text = json.dumps([{name: float(f"{value:.4g}") for name, value in row.items()} for row in rows])
    return PAGE.format(rows=text, last=STEPS - 1, middle=STEPS // 2)
