"""Records on a reader's own images: readable whatever becomes of the images, and never beside other images' numbers."""

import json
import shutil

import numpy as np
import pytest
from helpers import HOW, forget, image_tree, one_line, picture, record_of, stop_at

from mlp_lib import datasets
from mlp_lib.errors import UserError
from mlp_lib.records.frames import by_seed
from mlp_lib.records.run import make_run
from mlp_lib.records.same_images import check_images
from mlp_lib.records.store import Store
from mlp_lib.sweeps import costs
from mlp_lib.sweeps.ensure import ensure
from mlp_lib.sweeps.execute import execute
from mlp_lib.training.loop import train

FIELDS = dict(model="B-1/Wi-8", dataset="folder:set@8", split="all", batch_size=2, lr=1e-3)


@pytest.fixture
def trained(root):
    """Runs on a folder of images, with a parent there and without, recorded; and one that diverged."""
    image_tree(root / "set", count=4)
    store = Store(root / "records")
    run = make_run(**FIELDS, epochs=3)
    child = make_run(model="B-1/Wi-8", dataset="shapes", epochs=1, init=dict(run=run, transform="new_head", epoch=2))
    execute(run, store, HOW, keep_epochs=(2,))
    store.add(record_of(child))
    store.add(record_of(run.but(seed=1), status="diverged", steps=5, data=datasets.load("folder:set@8").fingerprint))
    return root, store, run, child


def moved(root):
    shutil.move(root / "set", root / "elsewhere")


def shrunk(root):
    for path in (root / "set").rglob("[123].png"):
        path.unlink()


def half_gone(root):
    shutil.rmtree(root / "set" / "test")


def one_class_less(root):
    for part in ("train", "test"):
        shutil.rmtree(root / "set" / part / "b")


def a_file_instead(root):
    shutil.rmtree(root / "set")
    (root / "set").write_text("nothing")


def grown(root):
    image_tree(root / "set", classes=("a", "b", "c"), count=9)


@pytest.mark.parametrize("fate", [moved, shrunk, half_gone, one_class_less, a_file_instead, grown])
def test_a_store_is_read_whatever_has_become_of_the_images(trained, fate):
    root, store, run, child = trained
    before = Store(store.folder).frame().set_index("key").sort_index()
    fate(root)
    forget()
    after = Store(store.folder).frame().set_index("key").sort_index()
    assert list(after.index) == list(before.index) and {run.key, child.key} <= {*after.index}
    for column in ("test_top1", "total_steps", "steps_taken", "status", "lr"):
        assert after[column].astype(object).equals(before[column].astype(object)), column
    assert after.loc[run.key, "total_steps"] == 12
    assert after.loc[run.key, "train_examples"] in (8, None) or np.isnan(after.loc[run.key, "train_examples"])
    ok = after[after["status"] == "ok"].reset_index()
    assert len(by_seed(ok[ok["dataset"] == "folder:set@8"])) == 1
    assert costs.recorded(Store(store.folder))(make_run(model="B-1/Wi-8", dataset="digits", epochs=1)) >= 0
    for record in Store(store.folder):
        assert record.key == record.run.key


def test_a_record_of_another_number_of_images_than_today_says_its_own_steps(root):
    image_tree(root / "set", count=4)
    store = Store(root / "records")
    runs = [make_run(**FIELDS, epochs=3, subset=subset) for subset in (4, None)]
    for run in runs:
        execute(run, store, HOW)
    shrunk(root)
    forget()
    frame = Store(store.folder).frame(Store(store.folder).get(run).run for run in runs)
    assert frame["total_steps"].tolist() == [6, 12] and frame["train_examples"].tolist()[0] == 4


def test_images_that_have_changed_under_an_old_name_are_refused_by_every_way_to_train(trained, monkeypatch):
    root, store, run, _ = trained
    picture(77, (8, 8)).save(root / "set" / "train" / "a" / "0.png")
    forget()
    message = f"the images of folder:set@8 are not those that run {run.key[:0]}[0-9a-f]* was trained on; give them"
    new = make_run(**FIELDS, epochs=5)
    for again in (
        lambda: execute(run, Store(store.folder), HOW),
        lambda: execute(new, Store(store.folder), HOW),
        lambda: ensure([new], store=Store(store.folder), progress=False),
        lambda: ensure([run], store=Store(store.folder), progress=False),
        lambda: check_images([run.but(init=dict(run=run), dataset="shapes", batch_size=128)], Store(store.folder)),
    ):
        with pytest.raises(UserError, match=message) as error:
            again()
        one_line(error)
    assert len(Store(store.folder).replicates(run)) == 1
    check_images([make_run(model="B-1/Wi-8", dataset="digits", epochs=1)], Store(store.folder))
    execute(new, Store(root / "other"), HOW)  # another store, or another name, is another matter
    shutil.copytree(root / "set", root / "newer")
    execute(make_run(**{**FIELDS, "dataset": "folder:newer@8"}, epochs=1), Store(store.folder), HOW)


def test_a_training_does_not_go_on_with_other_images(root):
    image_tree(root / "set", count=4)
    run = make_run(**FIELDS, epochs=3)
    train(run, root / "weights", HOW, should_stop=stop_at(5))
    kept = (root / "weights" / f"{run.key}.checkpoint").read_bytes()
    first = (root / "set" / "train" / "a" / "0.png").read_bytes()
    picture(77, (8, 8)).save(root / "set" / "train" / "a" / "0.png")
    forget()
    with pytest.raises(UserError, match="was begun with other images of folder:set@8: put those back, give") as error:
        train(run, root / "weights", HOW)
    one_line(error)
    assert (root / "weights" / f"{run.key}.checkpoint").read_bytes() == kept
    (root / "set" / "train" / "a" / "0.png").write_bytes(first)
    forget()
    outcome, _ = train(run, root / "weights", HOW)
    assert outcome.status == "ok" and outcome.fingerprint == datasets.load("folder:set@8").fingerprint


def test_a_checkpoint_that_does_not_say_its_images_is_taken_on_the_projects_sets_only(root):
    import torch

    image_tree(root / "set", count=4)
    for fields, taken in ((dict(model="B-1/Wi-8", dataset="digits"), True), (FIELDS, False)):
        run = make_run(**fields, epochs=3)
        train(run, root / "weights", HOW, should_stop=stop_at(5))
        path = root / "weights" / f"{run.key}.checkpoint"
        state = torch.load(path, weights_only=True)
        assert state.pop("data")
        torch.save(state, path)
        if taken:
            assert train(run, root / "weights", HOW)[0].status == "ok"
        else:
            with pytest.raises(UserError, match="does not say with which images it was begun"):
                train(run, root / "weights", HOW)


def test_a_stored_run_keeps_its_key_and_its_name(trained):
    root, store, run, _ = trained
    path = next(store.folder.glob(f"{run.key}-*.json"))
    text = json.loads(path.read_text())
    assert text["run"]["dataset"] == "folder:set@8"
    moved(root)
    forget()
    assert Store(store.folder).get(run).run.key == run.key


@pytest.mark.parametrize(("labels", "kept"), [((3, 10010, 2**40), [3, 10010, 2**40]), ((0, 1, 2), None)])
def test_a_record_keeps_what_the_files_call_the_classes(root, labels, kept):
    (root / "set").mkdir()
    for part in ("train", "test"):
        images = np.random.default_rng(len(part)).integers(0, 256, (6, 8, 8, 3), np.uint8)
        np.savez(root / "set" / f"{part}.npz", images=images, labels=np.array(labels * 2))
    store = Store(root / "records")
    run = make_run(**{**FIELDS, "dataset": "npz:set"}, epochs=1)
    path = execute(run, store, HOW).path
    assert json.loads(path.read_text()).get("labels_in_files") == kept
    record = Store(store.folder).get(run)
    assert list(record.labels_in_files) == (kept or []) and record.filename == path.name
    assert "labels_in_files" not in store.frame()
