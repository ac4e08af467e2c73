"""`merge`: records made elsewhere, brought into a store."""

from pathlib import Path

from mlp_lib.errors import UserError
from mlp_lib.records.record import Record, read_record
from mlp_lib.records.store import Store


def merge(source: Path, store: Store) -> tuple[list[Path], int]:
    """Copy the records below `source` into `store`. Keys are computed anew; a second record of a run is kept beside
    the first as a replicate, and measures of a training whose record is there are added to it. Returns the files
    written and how many records brought nothing new.

    Every record is read before the first is written. Raises UserError when `source` holds none, or one is damaged.
    """
    paths = sorted(p for p in Path(source).rglob("*.json") if p.is_file())
    if not paths:
        raise UserError(f"no records (*.json) below {source}; give the folder that --out named")
    records = [read_record(path) for path in paths]
    there: dict[str, list[Record]] = {}  # kept here: a store reads its whole folder anew after each write
    for record in store:
        there.setdefault(record.key, []).append(record)
    written, known = [], 0
    for record in records:
        if record.status == "failed":
            continue
        record = record.model_copy(update={"key": record.run.key})
        trainings = there.setdefault(record.key, [])
        same = next((i for i, old in enumerate(trainings) if old.training == record.training), None)
        if same is None:
            trainings.append(record)
            written.append(store.add(record))
        elif record.measures.keys() <= trainings[same].measures.keys():
            known += 1
        else:
            old = trainings[same]
            trainings[same] = old.model_copy(update={"measures": record.measures | old.measures})
            written.append(store.replace(old, trainings[same]))
    return written, known
