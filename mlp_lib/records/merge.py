"""`merge`: records made elsewhere, brought into a store."""

from pathlib import Path

from mlp_lib.errors import UserError
from mlp_lib.records.record import read_record
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
    written, known = [], 0
    for record in records:
        if record.status == "failed":
            continue
        record = record.model_copy(update={"key": record.run.key})
        same = next((old for old in store.replicates(record.run) if old.training == record.training), None)
        if same is None:
            written.append(store.add(record))
        elif record.measures.keys() <= same.measures.keys():
            known += 1
        else:
            more = same.model_copy(update={"measures": record.measures | same.measures})
            written.append(store.replace(same, more))
    return written, known
