"""What several test files share."""

from mlp_lib.records import Record
from mlp_lib.runs import Run


def record_of(run: Run, **changes) -> Record:
    """A record as training would write it, without training."""
    fields = dict(
        key=run.key, run=run, status="ok", parameters=100, parameters_body=50, macs=40, paper_flops=120,
        train_flops=200,
        metrics={"train_top1": 60.0, "val_top1": 50.0, "test_top1": 49.0, "test_loss": 1.5},
        curve=[{"epoch": 1.0, "step": 10.0, "val_top1": 30.0}, {"epoch": 2.0, "step": 20.0, "val_top1": 50.0}],
        steps=run.total_steps, seconds=1.5, images_per_second=1000.0, device="cpu", hardware="test", precision="fp32",
        threads=1, versions={"torch": "2"}, sources="s", data="d", time="2025-01-01T00:00:00+00:00",
    )  # fmt: skip
    if changes.get("status", "ok") != "ok":
        fields |= {"metrics": {}, "curve": []}
    return Record(**(fields | changes))
