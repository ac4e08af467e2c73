"""`merge`: records made elsewhere, brought into a store."""

import os
from collections.abc import Iterator
from pathlib import Path

from mlp_lib.errors import UserError
from mlp_lib.paths import shown, whats_wrong
from mlp_lib.records.record import read_record
from mlp_lib.records.store import Store


def merge(source: Path, store: Store) -> tuple[list[Path], int]:
    """Copy the records below `source` into `store`. Keys are computed anew; a second record of a run is kept beside
    the first as a replicate, and measures of a training whose record is there are added to it. Returns the files
    written and how many records brought nothing new.

    Every record is read before the first is written. Raises UserError when `source` holds none, or one is damaged.
    """
    paths = sorted(_files(Path(source)))
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


def _files(source: Path) -> Iterator[Path]:
    """Every .json file below a folder, but for hidden ones. Raises UserError for a folder that cannot be listed."""

    def refuse(error: OSError) -> None:
        reason = whats_wrong(Path(error.filename), error)
        raise UserError(f"{shown(str(error.filename))} cannot be listed: {reason}") from error

    for folder, folders, names in os.walk(source, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__MACOSX"]
        yield from (Path(folder, name) for name in names if name.endswith(".json") and not name.startswith("."))
