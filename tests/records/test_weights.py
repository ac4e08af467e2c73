"""Weights that are truncated, empty, foreign or a stand-in: not at hand, and one line that says what they are."""

import numpy as np
import pytest
import safetensors.torch
import torch
from helpers import DIGITS, HOW, one_line
from hypothesis import given, settings
from hypothesis import strategies as st

from mlp_lib import models
from mlp_lib.errors import UserError
from mlp_lib.records.run import make_run
from mlp_lib.records.store import Store
from mlp_lib.records.weights import weights_at_hand, weights_fault
from mlp_lib.sweeps.ensure import missing, to_measure
from mlp_lib.sweeps.execute import add_measures, execute
from mlp_lib.training.checkpoints import find_weights, put_weights, read_weights

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
BAD = {
    "empty": (lambda good: b"", "it is empty"),
    "a pointer": (lambda good: POINTER, "it is a Git LFS pointer, not the file itself; run git lfs pull"),
    "truncated": (lambda good: good[:-100], "it is truncated, or no safetensors file"),
    "half a header": (lambda good: good[:20], "it is truncated, or no safetensors file"),
    "three bytes": (lambda good: good[:3], "it is no safetensors file"),
    "longer": (lambda good: good + b"more", "it is truncated, or no safetensors file"),
    "a pickle": (lambda good: b"\x80\x04K\x01." * 40, "it is truncated, or no safetensors file"),
    "text": (lambda good: b"hello, weights are elsewhere " * 9, "it is truncated, or no safetensors file"),
    "nested": (lambda good: (80_000).to_bytes(8, "little") + b"[" * 80_000, "it is no safetensors file"),
}
RUN = make_run(**DIGITS)


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> bytes:
    folder = tmp_path_factory.mktemp("good")
    safetensors.torch.save_file(models.build_for(RUN).state_dict(), folder / "x")
    assert weights_fault(folder / "x") is None and weights_at_hand(folder / "x")
    return (folder / "x").read_bytes()


@pytest.mark.parametrize("kind", BAD)
def test_bad_weights_are_not_at_hand(tmp_path, good, kind):
    spoil, message = BAD[kind]
    path = tmp_path / f"{RUN.key}.safetensors"
    path.write_bytes(spoil(good))
    assert not weights_at_hand(path) and message in weights_fault(path)
    with pytest.raises(UserError, match=f"are not at hand .*{message}.*; train that run again") as error:
        find_weights(tmp_path, RUN.key)
    one_line(error)
    with pytest.raises(UserError, match=f"cannot be read .{message}") as error:
        read_weights(path)
    one_line(error)


def test_what_is_no_file_is_not_at_hand(tmp_path):
    path = tmp_path / "x.safetensors"
    assert not weights_at_hand(path)
    with pytest.raises(UserError, match="there is no such file"):
        find_weights(tmp_path, "x")
    path.symlink_to(tmp_path / "gone")
    with pytest.raises(UserError, match="it is not there, or a link to nothing"):
        find_weights(tmp_path, "x")
    path.unlink()
    path.mkdir()
    assert not weights_at_hand(path) and weights_fault(path) == "it is a folder"


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_a_whole_file_is_told_from_any_cut(good, tmp_path_factory, data):
    path = tmp_path_factory.mktemp("cut") / "x"
    path.write_bytes(good[: data.draw(st.integers(0, len(good) - 1))])
    assert not weights_at_hand(path)


def test_weights_of_another_model_are_one_line(tmp_path, good):
    path = tmp_path / "x.safetensors"
    path.write_bytes(good)
    other = models.build_for(make_run(model="B-1/Wi-16", dataset="digits", epochs=1))
    before = [p.clone() for p in other.parameters()]
    with pytest.raises(UserError, match="are of another model: .*; delete them and train that run again") as error:
        put_weights(other, path)
    one_line(error)
    del before


@pytest.mark.parametrize("kind", ["empty", "a pointer", "truncated", "another model's"])
def test_a_parent_with_bad_weights_is_trained_again_and_no_failure_is_recorded(tmp_path, good, kind):
    store = Store(tmp_path)
    child = make_run(**DIGITS, init=dict(run=RUN))
    execute(RUN, store, HOW)
    path = store.weights / f"{RUN.key}.safetensors"
    if kind == "another model's":
        safetensors.torch.save_file({"a": torch.zeros(3)}, path)
    else:
        path.write_bytes(BAD[kind][0](good))
        assert [run.key for run in missing([child], store)] == [RUN.key, child.key]
        assert to_measure(RUN, store, ("first_layer",)) == () and not add_measures(RUN, store, ("first_layer",))
    with pytest.raises(UserError, match="not at hand|do not fit") as error:
        execute(child, store, HOW)
    one_line(error)
    assert [record.status for record in Store(tmp_path)] == ["ok"]
    if kind == "another model's":
        with pytest.raises(UserError, match="are of another model"):
            add_measures(RUN, store, ("first_layer",))
    assert np.isfinite(store.get(RUN).metrics["test_loss"])
