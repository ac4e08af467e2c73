"""Runs: keys that stay, spellings that agree, and one clear line for everything that is not a run."""

import pytest

from mlp_lib.errors import UserError
from mlp_lib.records import run as runs
from mlp_lib.records.run import Run, make_run

PARENT = dict(model="B-2/Wi-32", dataset="shapes", epochs=4)

# Frozen for good. A key that changes here orphans every record that was made under it: if a default, a field or the
# hash has to change all the same, raise a recipe instead, or rename the records with it.
GOLDEN = [
    ("144770837112", dict(model="B-6/Wi-1024", dataset="cifar10", split="all", epochs=100, batch_size=4096)),
    (
        "c932aa4d00f5",
        dict(
            model="S-6/Wi-256",
            dataset="cifar10",
            subset=10_000,
            augment="flip+crop+mixup",
            epochs=90,
            batch_size=256,
            lr=3e-4,
        ),
    ),
    ("6ec83ced1f1f", dict(model="CNN-16", dataset="cifar100", epochs=30, seed=2)),
    ("d89c1c5726da", dict(model="B-12/Wi-512-E_2", dataset="cifar10", steps=1000, lr=1e-5, weight_decay=1e-3)),
    (
        "02f6bf4575b6",
        dict(
            model="B-2/Wi-64",
            dataset="digits",
            epochs=10,
            optimizer="sgd",
            lr=0.1,
            momentum=0.0,
            clip=1.0,
            label_smoothing=0.0,
        ),
    ),
    (
        "82354548a310",
        dict(
            model="B-2/Wi-64",
            dataset="digits",
            epochs=10,
            optimizer="adamw",
            beta1=0.8,
            beta2=0.95,
            schedule="cosine",
            warmup_steps=20,
        ),
    ),
    (
        "aba187001224",
        dict(
            model="S-2/Wi-64",
            dataset="shapes",
            epochs=5,
            activation="gelu",
            norm="batch",
            norm_position="post",
            skip=True,
            block_form="code",
        ),
    ),
    ("5504ebbd55af", dict(model="S-2/Wi-64", dataset="shapes", epochs=5, bottleneck=True, dropout=0.1)),
    ("c04b83083032", dict(model="S-2/Wi-64", dataset="shapes", epochs=5, permute_seed=7, resolution=16)),
    (
        "15398b820a65",
        dict(model="CNN-8", dataset="shapes", epochs=5, augment="crop+pad", crop_scale=0.4, crop_ratio=1, pad=2),
    ),
    ("4e31d4a9dbdb", dict(model="S-2/Wi-64", dataset="shapes", epochs=5, augment="mixup", mixup_alpha=0.2)),
    ("4efcfa83159b", dict(model="B-2/Wi-32", dataset="shapes", epochs=2, init=dict(run=PARENT, epoch=3))),
    (
        "737802d5e2de",
        dict(model="B-2/Wi-32", dataset="cifar100", epochs=2, init=dict(run=PARENT, transform="new_head")),
    ),
]

SMALL = dict(model="B-2/Wi-32", dataset="digits", epochs=2)


@pytest.mark.parametrize("key, fields", GOLDEN, ids=[key for key, _ in GOLDEN])
def test_golden_keys(key, fields):
    assert make_run(**fields).key == key


def test_numbers_agree_however_they_are_written():
    keys = {make_run(**SMALL, seed=1, batch_size=n, lr=lr).key for n, lr in ((64, 1), (64.0, 1.0), ("64", "1"))}
    assert len(keys) == 1
    assert len({make_run(**SMALL, skip=value).key for value in (False, "false", 0)}) == 1


def test_spellings_and_field_order_agree():
    spelled = make_run(model="B_6-Wi_512", dataset="cifar10", augment="mixup + flip", epochs=3)
    other = make_run(epochs=3, augment="flip+mixup", dataset="cifar10", model="B-6/Wi-512-E_4")
    assert spelled == other and spelled.key == other.key
    assert spelled.model == "B-6/Wi-512" and spelled.augment == "flip+mixup"


def test_defaults_given_explicitly_change_nothing():
    plain = make_run(model="B-2/Wi-32", dataset="digits", epochs=2)
    defaults = {n: f.default for n, f in Run.model_fields.items() if not f.is_required() and n != "epochs"}
    assert make_run(**SMALL, **defaults).key == plain.key
    assert Run.model_validate(plain.model_dump()).key == plain.key


@pytest.mark.parametrize(
    "spelled_out",
    [
        dict(model="B-2/Wi-64", activation="gelu", norm="layer", norm_position="pre", skip=True, bottleneck=True),
        dict(model="S-2/Wi-64", activation="relu", skip=False, bottleneck=False, block_form="text"),
        dict(model="CNN-8", norm="batch", activation="relu"),
        dict(model="B-2/Wi-64", beta1=0.9, beta2=0.99),
        dict(model="B-2/Wi-64", optimizer="adamw", beta1=0.9, beta2=0.999),
        dict(model="B-2/Wi-64", resolution=32),
        dict(model="B-2/Wi-64", subset=4500),
        dict(model="B-2/Wi-64", subset=5000, split="all"),
    ],
)
def test_a_familys_own_defaults_given_explicitly_are_the_same_run(spelled_out):
    kept = {k: v for k, v in spelled_out.items() if k in ("model", "optimizer", "split")}
    assert make_run(dataset="shapes", epochs=1, **spelled_out) == make_run(dataset="shapes", epochs=1, **kept)


def test_every_field_that_is_changed_changes_the_key():
    base = dict(model="S-2/Wi-32", dataset="shapes", epochs=2, augment="crop+pad+mixup")
    changes = dict(
        model="S-2/Wi-33",
        activation="gelu",
        norm="batch",
        norm_position="post",
        skip=True,
        bottleneck=True,
        block_form="code",
        dropout=0.1,
        dataset="cifar10",
        subset=1000,
        fresh=True,
        split="all",
        resolution=16,
        permute_seed=0,
        augment="flip+crop+pad+mixup",
        crop_scale=0.4,
        crop_ratio=1.0,
        pad=2,
        mixup_alpha=0.2,
        lr=1e-3,
        weight_decay=0.1,
        beta1=0.8,
        beta2=0.9,
        schedule="linear",
        warmup_steps=3,
        clip=1.0,
        label_smoothing=0.1,
        batch_size=64,
        epochs=3,
        seed=1,
        init=dict(run=PARENT),
    )
    keys = {make_run(**{**base, name: value}).key for name, value in changes.items()}
    keys |= {make_run(**base, optimizer=name).key for name in ("adamw", "sgd")}
    keys |= {make_run(**base, optimizer="sgd", momentum=0.5).key, make_run(**{**base, "epochs": None}, steps=9).key}
    keys |= {make_run(**base, init=dict(run=PARENT), body_share=0.1).key}
    keys |= {make_run(**base, fresh=True, data_seed=1).key}
    assert make_run(**base).key not in keys and len(keys) == len(changes) + 6
    assert set(changes) | {"optimizer", "momentum", "steps", "recipes", "body_share", "data_seed"} == set(
        Run.model_fields
    )


INVALID = [
    ("modle", dict(SMALL, modle="B-2/Wi-32"), "unknown field 'modle'.*did you mean 'model'.*batch_size"),
    ("wrong type", dict(SMALL, lr="fast"), "lr='fast'.*number"),
    ("fraction", dict(model="B-2/Wi-32", dataset="digits", epochs=1.5), r"epochs=1\.5.*integer"),
    ("not finite", dict(SMALL, lr=float("nan")), "lr=nan.*finite"),
    ("not a choice", dict(SMALL, optimizer="adam"), "optimizer='adam'.*'lion', 'sgd' or 'adamw'"),
    ("too small", dict(SMALL, lr=0), "lr=0: .*greater than 0"),
    ("model missing", dict(dataset="digits", epochs=1), "model is missing.*model=B-6/Wi-256"),
    ("unknown model", dict(SMALL, model="resnet50"), "unknown model 'resnet50'.*B-12/Wi-512"),
    ("unknown data", dict(SMALL, dataset="mnist"), "'mnist'.*digits, digits-32, shapes, shapes-centred"),
    ("batch too large", dict(SMALL, batch_size=2000), "batch_size=2000.*digits.*at most 1293"),
    ("subset too large", dict(SMALL, subset=1300), "subset=1300.*1293"),
    ("subset of none", dict(SMALL, subset=0), "subset=0.*greater than or equal to 1"),
    ("epochs and steps", dict(SMALL, steps=3), "either epochs or steps"),
    ("neither", dict(model="B-2/Wi-32", dataset="digits"), "either epochs or steps"),
    ("unknown part", dict(SMALL, augment="flip+rotate"), "'rotate'.*flip, crop, pad, mixup"),
    ("crop without crop", dict(SMALL, crop_scale=0.5), "crop_scale=0.5 has no effect.*'crop' in augment"),
    ("pad without pad", dict(SMALL, augment="crop", pad=2), "pad=2 has no effect"),
    ("alpha without mixup", dict(SMALL, mixup_alpha=0.2), "mixup_alpha=0.2 has no effect"),
    ("momentum of lion", dict(SMALL, momentum=0.5), "momentum=0.5 has no effect.*sgd"),
    ("beta of sgd", dict(SMALL, optimizer="sgd", beta1=0.5), "beta1=0.5 has no effect.*lion or adamw"),
    ("form of a bottleneck", dict(SMALL, block_form="text"), "block_form.*bottleneck=False"),
    ("skip of a CNN", dict(SMALL, model="CNN-4", skip=True), "'skip' does not apply to CNN.*activation, norm"),
    ("dropout of a CNN", dict(SMALL, model="CNN-4", dropout=0.1), "dropout.*CNN"),
    ("BatchNorm of one", dict(SMALL, model="CNN-4", batch_size=1), "batch_size=1.*BatchNorm.*at least 2"),
    ("warm-up too long", dict(SMALL, warmup_steps=21), r"warmup_steps=21.*20 steps"),
    ("parent is no run", dict(SMALL, init=3), "init=3"),
    ("parent's model", dict(SMALL, init={"run": {**SMALL, "model": "B-2"}}), "^init.run: unknown model 'B-2'"),
    ("parent's field", dict(SMALL, init={"run": {**SMALL, "lrr": 1}}), r"'init\.run\.lrr'.*did you mean 'lr'"),
    ("init's field", dict(SMALL, init={"run": SMALL, "epcoh": 1}), r"'init\.epcoh'.*'epoch'.*: run, epoch, transform$"),
    ("parent's epoch", dict(SMALL, init={"run": SMALL, "epoch": 3}), r"init\.epoch=3.*take 1 to 2"),
    ("unknown recipe", dict(SMALL, recipes={"flavour": 2}), "recipes=.*data, model, augment, optimizer, train"),
]


@pytest.mark.parametrize("fields, says", [case[1:] for case in INVALID], ids=[case[0] for case in INVALID])
def test_what_is_not_a_run_is_one_line_that_says_what_is_allowed(fields, says):
    with pytest.raises(UserError, match=says) as caught:
        make_run(**fields)
    assert "\n" not in str(caught.value)


def test_a_raised_recipe_renames_the_runs_it_affects_and_leaves_stored_ones(monkeypatch):
    plain, cropped = make_run(**SMALL), make_run(**SMALL, augment="crop")
    monkeypatch.setitem(runs.RECIPES, "augment", 2)
    assert make_run(**SMALL).key == plain.key
    assert make_run(**SMALL, augment="crop").key != cropped.key
    assert plain.but(augment="crop") == make_run(**SMALL, augment="crop")
    assert make_run(**SMALL, augment="crop").but(augment="none").key == plain.key

    def stored(run):
        return Run.model_validate(run.model_dump(), context={"stored": True})

    assert stored(cropped).key == cropped.key
    new = make_run(**SMALL, augment="crop")
    assert stored(new).key == new.key
    child = make_run(**SMALL, init={"run": cropped})
    assert stored(child).init.run.key == cropped.key and child.but(seed=1).init.run.key == cropped.key
    monkeypatch.setitem(runs.RECIPES, "train", 3)
    assert new.but(seed=1).recipes == {"augment": 2, "train": 3}


def test_the_parent_is_part_of_the_key():
    parent, child_of = make_run(**PARENT), {**SMALL, "dataset": "shapes"}
    child = make_run(**child_of, init={"run": parent})
    assert child.key not in (make_run(**child_of).key, make_run(**child_of, init={"run": parent.but(seed=1)}).key)
    assert child.key != make_run(**child_of, init={"run": parent, "transform": "new_head"}).key
    assert child.key != make_run(**child_of, init={"run": parent, "epoch": 2}).key
    assert child.key == make_run(**child_of, init={"run": {**PARENT, "model": "B_2-Wi_32", "seed": 0.0}}).key
    grandchild = make_run(**child_of, init={"run": child})
    assert grandchild.init.run.init.run == parent


def test_a_parent_of_other_channels_is_refused_before_anything_is_trained():
    with pytest.raises(UserError, match="init: a network of shapes sees 3 channels, and digits has 1"):
        make_run(**SMALL, init={"run": PARENT})


def test_but_changes_what_it_names_and_validates():
    run = make_run(**SMALL, seed=5)
    assert run.but(lr=1e-3) == make_run(**SMALL, seed=5, lr=1e-3)
    assert run.but(epochs=None, steps=7).total_steps == 7
    with pytest.raises(UserError, match="batch_size=9999"):
        run.but(batch_size=9999)
    with pytest.raises(UserError, match="unknown field 'sede'"):
        run.but(sede=1)


def test_a_run_cannot_be_changed():
    run = make_run(**SMALL)
    with pytest.raises(ValueError, match="frozen"):
        run.lr = 1.0


def test_lengths():
    run = make_run(model="S-2/Wi-32", dataset="digits", epochs=3)  # 1437 less the 144 that are held out
    assert (run.train_examples, run.steps_per_epoch, run.total_steps) == (1293, 10, 30)
    assert run.but(split="all").train_examples == 1437
    assert run.but(epochs=None, steps=25).total_steps == 25
    assert run.pixels == 8 and run.but(resolution=16).pixels == 16


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (dict(seed=2**64), "seed"),  # torch's generators take no more than 64 bits
        (dict(permute_seed=2**63), "permute_seed"),
        (dict(epochs=10**400), "epochs"),
        (dict(model="B-6/Wi-99999999999999"), "too large"),
        (dict(model="CNN-999999999"), "too large"),
    ],
)
def test_a_number_that_no_training_could_have_is_refused_in_one_line(fields, says):
    with pytest.raises(UserError, match=says) as caught:
        make_run(**{**dict(model="S-1/Wi-8", dataset="digits", epochs=1), **fields})
    assert "\n" not in str(caught.value)
