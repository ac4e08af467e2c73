"""Records and their store: written whole, read strictly, merged without loss."""

import errno
import hashlib
import json
import os
from pathlib import Path

import pandas as pd
import pytest
from helpers import record_of

from mlp_lib.errors import UserError
from mlp_lib.paths import REPOSITORY
from mlp_lib.records import record as records
from mlp_lib.records import run as runs
from mlp_lib.records.frames import curves
from mlp_lib.records.merge import merge
from mlp_lib.records.record import read_record
from mlp_lib.records.run import make_run
from mlp_lib.records.store import FEW, Store

RUN = make_run(model="B-2/Wi-32", dataset="digits", epochs=2, augment="crop")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


def names(store: Store) -> list[str]:
    return sorted(p.name for p in store.folder.glob("*"))


def test_round_trip_under_key_and_digest_of_the_content(store):
    record = record_of(RUN, measures={"first_layer": {"units": 3, "pictures": "AA=="}})
    path = store.add(record)
    assert read_record(path) == record == store.get(RUN)
    assert names(store) == [f"{RUN.key}-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.json"]
    assert json.loads(path.read_text())["run"]["label_smoothing"] == 0.3  # defaults are written out
    assert store.add(record) == path and len(names(store)) == 1


def test_replicates_are_kept_and_the_first_stands(store):
    late = record_of(RUN, time="2025-03-01T00:00:00+00:00", metrics={"test_top1": 90.0})
    early = record_of(RUN, time="2025-02-01T00:00:00+00:00")
    store.add(late)
    store.add(early)
    assert store.get(RUN) == early and store.replicates(RUN) == [early, late]
    assert len(store.frame()) == len(store.frame([RUN])) == 1 and len(list(store)) == 2


def test_more_measures_of_one_training_go_first(store):
    measured = record_of(RUN, measures={"first_layer": {"units": 3}})
    for record in (record_of(RUN), measured):
        store.add(record)
    assert store.get(RUN) == measured
    more = measured.model_copy(update={"measures": measured.measures | {"probe": 1}})
    store.replace(measured, more)
    assert store.get(RUN) == more and measured not in store.replicates(RUN)


def test_measures_are_of_any_record_and_metrics_of_the_first(store):
    first = record_of(RUN, time="2025-01-01T00:00:00+00:00", measures={"sharpness": 1}, precision="fp32")
    later = record_of(
        RUN,
        time="2025-02-01T00:00:00+00:00",
        measures={"sharpness": 2, "translated": 3},
        metrics={"test_top1": 90.0},
        precision="bf16",
    )
    diverged = record_of(RUN, time="2025-03-01T00:00:00+00:00", measures={"first_layer": 4}, status="diverged")
    for record in (later, diverged, first):
        store.add(record)
    assert store.measures(RUN) == {"sharpness": 1, "translated": 3}  # the first's own, where both have one
    assert store.lacking(RUN, ("translated", "first_layer")) == ("first_layer",)
    row = store.frame([RUN]).to_dict("records")[0]
    assert row["measures"] == store.measures(RUN) and store.row(RUN)["measures"] == row["measures"]
    assert (row["test_top1"], row["precision"], row["time"]) == (49.0, "fp32", first.time)
    assert store.get(RUN) == first  # as it was written
    own = store.replicate_frame([RUN])["measures"].tolist()
    assert own == [{"sharpness": 1}, {"sharpness": 2, "translated": 3}, {"first_layer": 4}]


def test_what_did_not_end_well_has_no_measures_of_another_training(store):
    other = RUN.but(seed=1)
    store.add(record_of(RUN, time="2025-01-01T00:00:00+00:00", status="diverged"))
    store.add(record_of(RUN, time="2025-02-01T00:00:00+00:00", measures={"sharpness": 1}))
    store.add(record_of(other, status="failed", error="x"))
    for run in (RUN, other, RUN.but(seed=2)):
        assert store.measures(run) == {} and store.lacking(run, ("sharpness", "translated")) == ()
    assert store.frame([RUN])["measures"].tolist() == [{}] and store.frame([RUN])["status"].tolist() == ["diverged"]


def test_a_failed_attempt_is_replaced_and_another_run_is_not(store):
    other = record_of(RUN.but(seed=1), status="failed", error="RuntimeError: x")
    for record in (record_of(RUN, status="failed", error="RuntimeError: y"), other, record_of(RUN)):
        store.add(record)
    assert store.replicates(RUN) == [record_of(RUN)] and store.get(RUN.but(seed=1)) == other


def test_a_finished_record_stands_before_a_failed_one(store):
    store.add(record_of(RUN, time="2025-02-01T00:00:00+00:00"))
    store.add(record_of(RUN, status="failed", error="x", time="2025-01-01T00:00:00+00:00"))
    assert store.get(RUN).status == "ok"


def test_recipes_of_stored_runs_stay_as_they_were(store, monkeypatch):
    path = store.add(record_of(RUN))
    monkeypatch.setitem(runs.RECIPES, "augment", 2)
    assert read_record(path).run.key == RUN.key and Store(store.folder).get(RUN).run == RUN
    assert store.get(RUN.but(seed=0)) is None  # made today: another recipe, another run


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: text.replace('"ok"', '"fine"'),
        lambda text: text.replace('"lr"', '"learning_rate"'),
        lambda text: text.replace('"schema_version": 1', '"schema_version": 2'),
        lambda text: text.replace('"digits"', '"mnist"'),
        lambda text: "\x00\xff" + text,
    ],
)
def test_a_damaged_record_is_one_line_that_names_the_file(store, damage):
    path = store.add(record_of(RUN))
    path.write_text(damage(path.read_text()))
    with pytest.raises(UserError) as caught:
        store.get(RUN)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_half_written_record_is_never_read(store):
    path = store.add(record_of(RUN))
    path.with_name(path.name.replace(RUN.key, "0" * 12) + ".77.part").write_text('{"key": ')
    assert len(list(Store(store.folder))) == 1


@pytest.mark.parametrize("where", ["write_text", "replace"])
def test_a_full_disk_is_one_line_and_loses_nothing(store, monkeypatch, where):
    store.add(record_of(RUN))
    before = {p: p.read_bytes() for p in store.folder.iterdir()}

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*((Path, "write_text") if where == "write_text" else (os, "replace")), full)
    with pytest.raises(UserError, match="cannot write record .*No space left on device; free some space") as caught:
        store.add(record_of(RUN, seconds=9.0))
    assert "\n" not in str(caught.value)
    assert {p: p.read_bytes() for p in store.folder.iterdir()} == before


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot make the folder .*Not a directory"):
        Store(tmp_path / "file" / "runs").add(record_of(RUN))


def test_the_default_folder(monkeypatch):
    monkeypatch.setenv("MLP_LIB_RUNS", os.sep + "elsewhere")
    assert Store().folder == Path(os.sep + "elsewhere")
    monkeypatch.delenv("MLP_LIB_RUNS")
    assert Store().folder == REPOSITORY / "data" / "runs"


def test_frame_has_a_row_a_run_in_their_order(store):
    diverged, parent = RUN.but(seed=1), RUN.but(seed=2)
    child = RUN.but(init={"run": parent})
    for record in (record_of(RUN), record_of(diverged, status="diverged", steps=7)):
        store.add(record)
    frame = store.frame([child, diverged, RUN])
    assert list(frame["status"]) == ["not run", "diverged", "ok"]
    assert list(frame["key"]) == [child.key, diverged.key, RUN.key]
    assert frame["init"][0] == parent.key and frame["init"].isna().tolist() == [False, True, True]
    assert frame["test_top1"].isna().tolist() == [True, True, False] and frame["test_top1"][2] == 49.0
    assert frame["steps"].isna().all() and frame["steps_taken"][1] == 7 and frame["total_steps"].eq(20).all()
    assert {
        "model",
        "lr",
        "seed",
        "augment",
        "train_flops",
        "paper_flops",
        "parameters",
        "seconds",
        "hardware",
        "train_examples",
        "curve",
        "measures",
        "torch",
        "val_top1",
    } <= set(frame)
    assert set(store.frame()["key"]) == {RUN.key, diverged.key}


def test_frame_of_nothing(store):
    assert store.frame().empty and list(store.frame().columns) == ["key", "status"]


def test_curves_are_tidy(store):
    store.add(record_of(RUN))
    tidy = curves(store.frame([RUN, RUN.but(seed=1)]))  # the second is not run: no points
    assert tidy["epoch"].tolist() == [1, 2] and tidy["val_top1"].tolist() == [30, 50]
    assert (tidy["key"] == RUN.key).all() and (tidy["model"] == "B-2/Wi-32").all() and "curve" not in tidy
    assert curves(pd.DataFrame()).empty
    finals = {f"{part}_{metric}" for part in ("train", "val", "test") for metric in ("top1", "top5", "loss")}
    assert finals & {*tidy} == {"val_top1"}  # what the points have: final metrics are no points of a curve


# --- merge ----------------------------------------------------------------------------------------------------------


def test_merge_is_idempotent_and_keeps_replicates(store, tmp_path):
    first = Store(tmp_path / "a")
    for record in (record_of(RUN), record_of(RUN, seconds=3.0), record_of(RUN.but(seed=1), status="failed", error="x")):
        first.add(record)
    first.weights.mkdir()
    Store(tmp_path / "a" / "deeper").add(record_of(RUN.but(seed=2)))
    written, known = merge(tmp_path / "a", store)
    assert len(written) == 3 and known == 0
    assert len(store.replicates(RUN)) == 2 and store.get(RUN.but(seed=2)) and store.get(RUN.but(seed=1)) is None
    assert merge(tmp_path / "a", store) == ([], 3)
    assert merge(store.folder, store) == ([], 3)


def test_merge_adds_what_was_measured_since_to_the_training_that_is_there(store, tmp_path):
    before, after = Store(tmp_path / "before"), Store(tmp_path / "after")
    before.add(record_of(RUN, measures={"a": {"x": 1}}))
    after.add(record_of(RUN, measures={"b": {"x": 2}}))
    merge(before.folder, store)
    written, known = merge(after.folder, store)
    assert len(written) == 1 and known == 0 and len(store.replicates(RUN)) == 1
    assert store.get(RUN).measures == {"a": {"x": 1}, "b": {"x": 2}}
    assert merge(before.folder, store) == ([], 1) and len(list(store.folder.glob("*.json"))) == 1


def test_records_are_read_while_another_process_replaces_them(tmp_path, monkeypatch):
    """The file that was listed is gone when it comes to be read: its successor is read, and nothing is read twice."""
    store, other = Store(tmp_path), Store(tmp_path)
    old = record_of(RUN)
    store.add(old)
    store.add(record_of(RUN.but(seed=1)))
    real, new = records.read_record, old.model_copy(update={"measures": {"a": {"x": 1}}})

    def replaced_before_it_is_read(path):
        if path.name == old.filename and path.exists():
            monkeypatch.setattr(records, "read_record", real)
            other.replace(old, new)
        return real(path)

    monkeypatch.setattr(records, "read_record", replaced_before_it_is_read)
    found = records.read_records(tmp_path)
    assert {path.name for path in found} == {new.filename, record_of(RUN.but(seed=1)).filename}
    (tmp_path / "gone.json").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="gone.json cannot be read: it is not there, or a link to nothing"):
        records.read_records(tmp_path)
    (tmp_path / "gone.json").unlink()
    with pytest.raises(UserError, match="keep changing.*gone.json"):
        records.read_records(tmp_path, lambda: [tmp_path / "gone.json"])


def test_merge_computes_keys_anew(store, tmp_path):
    source = Store(tmp_path / "a")
    path = source.add(record_of(RUN))
    path.write_text(path.read_text().replace(f'"key": "{RUN.key}"', '"key": "0123456789ab"'))
    ((moved,), _) = merge(source.folder, store)
    assert json.loads(moved.read_text())["key"] == RUN.key and moved.name == record_of(RUN).filename
    assert merge(source.folder, store) == ([], 1)


def test_merge_reads_everything_before_it_writes(store, tmp_path):
    source = Store(tmp_path / "a")
    source.add(record_of(RUN))
    (source.folder / "zzz.json").write_text("{}")
    with pytest.raises(UserError, match="zzz.json"):
        merge(source.folder, store)
    assert not store.folder.exists()


def test_merge_of_nothing_says_so(store, tmp_path):
    with pytest.raises(UserError, match="no records"):
        merge(tmp_path, store)


def test_committed_records_are_what_their_names_say():
    paths = sorted((REPOSITORY / "data" / "runs").glob("*.json"))
    assert paths
    for path in paths:
        record = read_record(path)
        assert path.name == record.filename and record.key == record.run.key and record.status != "failed"


def test_a_file_in_the_place_of_a_folder_of_records_is_not_an_empty_store(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match="records cannot be read"):
        list(Store(tmp_path / "file"))
    assert list(Store(tmp_path / "new")) == []  # a folder that is still to be made


# --- what is read -----------------------------------------------------------------------------------------------------


@pytest.fixture
def opened(monkeypatch):
    """Names of the files that were read, and how often the folder was listed (as "")."""
    seen, read, listdir = [], Path.read_bytes, os.listdir
    monkeypatch.setattr(Path, "read_bytes", lambda path: seen.append(path.name) or read(path))
    monkeypatch.setattr(os, "listdir", lambda path: seen.append("") or listdir(path))
    return seen


def test_what_is_asked_of_one_run_reads_the_files_of_that_run(store, opened):
    records = [record_of(RUN.but(seed=seed)) for seed in range(30)]
    for record in records:
        store.add(record)
    store.add(record_of(RUN.but(seed=3), seconds=7.0))
    opened.clear()
    fresh, mine = Store(store.folder), RUN.but(seed=3)
    assert fresh.has(mine) and len(fresh.replicates(mine)) == 2 and fresh.measures(mine) == {}
    assert not fresh.has(RUN.but(seed=30)) and fresh.lacking(RUN.but(seed=4), ("a",)) == ("a",)
    assert fresh.frame([mine, RUN.but(seed=4)])["status"].tolist() == ["ok", "ok"]
    assert sorted(opened) == sorted(["", *(r.filename for r in store.replicates(mine)), records[4].filename])
    opened.clear()
    fresh.add(record_of(RUN.but(seed=5), seconds=8.0))  # a replicate: that run is looked at again, no other
    assert len(fresh.replicates(RUN.but(seed=5))) == 2 and len(fresh.replicates(mine)) == 2
    assert sorted(opened) == sorted(record.filename for record in fresh.replicates(RUN.but(seed=5)))


def test_a_file_is_read_once_however_often_the_folder_is_looked_at(store, opened):
    for seed in range(5):
        store.add(record_of(RUN.but(seed=seed)))
    fresh = Store(store.folder)
    opened.clear()
    for _ in range(3):
        assert len(list(fresh)) == len(fresh.frame()) == 5 and fresh.has(RUN.but(seed=2))
        fresh.reload()
    assert sorted(name for name in opened if name) == sorted(p.name for p in store.folder.iterdir())
    store.add(record_of(RUN.but(seed=5)))  # by another process
    assert not fresh.has(RUN.but(seed=6)) and fresh.has(RUN.but(seed=5))
    path = store.folder / store.get(RUN).filename
    path.write_text("{")
    fresh.reload()
    with pytest.raises(UserError, match=f"record {path} is not valid"):
        fresh.get(RUN)
    assert fresh.has(RUN.but(seed=1))  # a damaged record is no matter of other runs


def test_a_record_under_any_name_is_that_of_its_run(store):
    path = store.add(record_of(RUN))
    path.rename(path.with_name("from a friend.json"))
    fresh = Store(store.folder)
    assert fresh.has(RUN) and len(list(fresh)) == 1 and not fresh.has(RUN.but(seed=1))


def test_the_first_look_ups_and_the_later_ones_find_the_same(store):
    """A few names are looked for one by one, more of them in order: with files under other names, and what is added."""
    some = [RUN.but(seed=seed) for seed in range(3 * FEW)]
    for run in some:
        store.add(record_of(run))
    path = next(store.folder.glob(f"{some[0].key}-*"))
    path.rename(store.folder / f"{some[0].key} (copy).json")
    (store.folder / f"._{path.name}").write_bytes(b"")
    for fresh in (Store(store.folder), Store(store.folder)):
        assert [record.run for run in some for record in fresh.replicates(run)] == some
        added = RUN.but(seed=100 + len(list(store.folder.iterdir())))
        fresh.add(record_of(added))
        assert fresh.get(added).run == added and Store(store.folder).has(added)
        some = [added, *reversed(some)]


def test_records_of_one_run_are_read_while_another_process_replaces_them(store, monkeypatch):
    old, other = record_of(RUN), Store(store.folder)
    store.add(old)
    new, real, fresh = old.model_copy(update={"measures": {"a": {"x": 1}}}), Path.read_bytes, Store(store.folder)

    def replaced_before_it_is_read(path):
        if path.name == old.filename:
            monkeypatch.setattr(Path, "read_bytes", real)
            other.replace(old, new)
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", replaced_before_it_is_read)
    assert fresh.replicates(RUN) == [new]
