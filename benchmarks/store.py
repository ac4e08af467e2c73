"""What a large folder of records costs: 20 tiny runs beside 10,000 records, over the same beside none.

`make bench` has it among its parts. `python -m benchmarks.store` measures it alone, and ends with one line of JSON and,
where the ratio is above `AT_MOST`, exit code 1. Rounds take turns in one process. Each run is given a store of its own,
as the workers of a sweep do.
"""

import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from mlp_lib.records.run import Run, make_run
from mlp_lib.records.store import Store
from mlp_lib.sweeps.ensure import ensure
from mlp_lib.sweeps.execute import execute
from mlp_lib.training.how import How

AT_MOST = 1.10
HOW = How("cpu", "fp32", threads=1)
TINY = make_run(model="B-1/Wi-16", dataset="digits", epochs=2, lr=1e-3)


def fill(store: Store, count: int) -> None:
    """Put `count` records of other runs into the store, made from a real one."""
    first = execute(TINY.but(seed=10**6), store, HOW).record
    for number in range(1, count):
        run = TINY.but(seed=10**6 + number)
        record = first.model_copy(update={"run": run, "key": run.key})
        (store.folder / record.filename).write_text(record.to_json())


def seconds_of(runs: list[Run], folder: Path) -> float:
    """Train the runs one after another, look at them all as a page does, and take them out again."""
    start = time.perf_counter()
    for run in runs:
        execute(run, Store(folder), HOW, again=False)
    store = Store(folder)
    assert (ensure(runs, store=store, train=False)["status"] == "ok").all()
    seconds = time.perf_counter() - start
    for run in runs:
        (folder / store.get(run).filename).unlink()
    shutil.rmtree(store.weights)
    return seconds


def measure(records: int = 10_000, count: int = 20, rounds: int = 5) -> dict[str, float]:
    """Median seconds of `count` tiny runs beside no records and beside `records`, and their ratio."""
    runs = [TINY.but(seed=seed) for seed in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        empty, full = Path(folder, "empty"), Path(folder, "full")
        fill(Store(full), records)
        seconds_of(runs, empty)  # the first imports
        taken: dict[Path, list[float]] = {empty: [], full: []}
        for _ in range(rounds):
            for place, seconds in taken.items():
                seconds.append(seconds_of(runs, place))
    beside_none, beside_many = map(statistics.median, taken.values())
    found = {"records": records, "runs": count, "seconds_beside_none": beside_none, "seconds_beside_them": beside_many}
    return found | {"ratio": beside_many / beside_none}


if __name__ == "__main__":
    result = measure()
    print(json.dumps(result))
    sys.exit(result["ratio"] > AT_MOST)
