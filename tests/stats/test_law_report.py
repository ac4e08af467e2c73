"""The report, its text, the command, the figures, and one line for each thing that can be wrong with a table."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import typer
from law_sweeps import MLP, columns, grid

from mlp_lib.cli.laws import laws
from mlp_lib.errors import UserError
from mlp_lib.stats.laws.report import as_text, plain, report
from mlp_lib.stats.laws.table import read_csv, tidy

FAST = {"draws": 30}


@pytest.fixture(scope="module")
def runs():
    return grid(MLP, noise=0.01, seeds=2)


@pytest.fixture(scope="module")
def answer(runs):
    return report(runs, budget=1e18, **FAST)


def test_the_report_is_json_and_has_what_it_promises(answer):
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer
    assert answer["runs"] == 144 and answer["cells"] == 72
    for method in ("huber", "varpro"):
        own = answer["joint"][method]
        assert own["alpha"] == pytest.approx(1.0, abs=0.05) and own["beta"] == pytest.approx(0.35, abs=0.03)
        for name in ("A", "B", "E", "alpha", "beta"):
            low, high = own["intervals"][name]
            assert low < own[name] < high and own["identified"][name] is True
        assert answer["held_out"][method]["rms_log"] < 0.03
        assert answer["recommendation"][method]["params"] > 0
    assert list(answer["allocation"]) == ["huber", "varpro", "frontier", "isoflop"]
    for own in answer["allocation"].values():
        assert own["params_exponent"] + own["examples_exponent"] == pytest.approx(1, abs=0.02)
    assert {own["law"] for own in answer["frontier_laws"]} == {"power", "saturating", "m4", "one_break"}


def test_the_text_says_the_same(answer):
    text = as_text(answer)
    for part in ("144 runs", "alpha", "isoflop", "For a budget of 1e+18", "unseen"):
        assert part in text
    assert max(map(len, text.splitlines())) < 160
    assert "For a budget" not in as_text(answer | {"recommendation": None})


def test_what_is_open_is_marked():
    answer = report(grid(MLP, noise=0.01, sizes=2, lengths=12), **FAST)
    assert answer["joint"]["varpro"]["identified"]["alpha"] is False
    assert "2 different params: three or more are needed to tell its exponent" in answer["notes"]
    assert answer["allocation"]["isoflop"]["params_exponent"] is None and answer["recommendation"] is None
    assert " *" in as_text(answer)
    json.dumps(answer, allow_nan=False)


def test_own_compute_is_used_and_said(runs):
    answer = report(runs.assign(compute=runs["compute"] * (1 + 1e4 / runs["params"])), budget=1e18, **FAST)
    assert any("compute is not proportional" in note for note in answer["notes"])
    plainly = report(runs.drop(columns="compute"), flops_per=2.0, budget=1e18, **FAST)
    assert plainly["settings"]["flops_per"] == pytest.approx(2.0)


def test_copies_are_said(runs):
    assert any("exact copies" in note for note in report(pd.concat([runs, runs]), **FAST)["notes"])


def test_plain_values():
    assert plain({"a": (np.float64(1), np.nan), 2: np.array([np.inf])}) == {"a": [1.0, None], "2": [None]}


@pytest.mark.parametrize(
    "change, names, message",
    [
        (lambda t: t, "params,examples,error", "no column 'error'; there are params, examples, loss, compute, seed"),
        (lambda t: t, "params,examples", "give three"),
        (lambda t: t, "params,params,loss", "name one twice"),
        (lambda t: t[:5], None, "5 runs; the joint law has five constants and needs 6 runs or more"),
        (lambda t: t[:0], None, "0 runs"),
        (lambda t: t[t["params"] == t["params"].min()], None, "every run has params"),
        (lambda t: t[t["examples"] == t["examples"].min()], None, "every run has examples"),
        (lambda t: t.assign(loss=t["loss"].where(t.index != 3, 0.0)), None, "loss is not positive in row 4"),
        (lambda t: t.assign(params=-t["params"]), None, "params is not positive in row 1"),
        (lambda t: t.assign(loss=t["loss"].where(t.index != 7)), None, r"loss is missing in row 8"),
        (
            lambda t: t.assign(loss=t["loss"].astype(object).where(t.index != 7, "low")),
            None,
            "not a number in row 8.*low",
        ),
        (lambda t: t.assign(examples=t["examples"].where(t.index != 2, np.inf)), None, "examples is infinite in row 3"),
        (lambda t: t.assign(compute=0.0), None, "compute is not positive in row 1"),
        (
            lambda t: t.set_axis(["loss", "examples", "loss", "compute", "seed"], axis=1),
            "examples,loss,seed",
            "more than one column 'loss'",
        ),
    ],
)
def test_a_table_that_will_not_do_is_said_in_one_line(runs, change, names, message):
    with pytest.raises(UserError, match=message) as caught:
        report(change(runs), **FAST, **({"columns": names.split(",")} if names else {}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options", [{"budget": np.inf}, {"budget": 0}, {"draws": 1}, {"flops_per": np.nan}, {"held_out": 2}]
)
def test_an_option_that_will_not_do_is_said(runs, options):
    with pytest.raises(UserError):
        report(runs.drop(columns="compute"), **(FAST | options))


def test_a_file_that_will_not_do_is_said(tmp_path):
    for name, content, message in (
        ("absent.csv", None, "does not exist"),
        ("empty.csv", b"", "is empty"),
        ("twice.csv", b"loss,params,loss\n1,2,3\n", "more than one column 'loss'"),
        ("ragged.csv", b"a,b\n1,2\n1,2,3,4\n", "cannot be read as CSV"),
        ("binary.csv", b"\xff\xfe\x00\x81", "cannot be read as CSV"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=message) as caught:
            read_csv(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="cannot be read"):
        read_csv(tmp_path)


def test_names_with_spaces_and_other_names_do(tmp_path, runs):
    table = runs.rename(columns={"params": " P", "loss": "test error"})
    table.to_csv(tmp_path / "runs.csv", index=False)
    read = tidy(read_csv(tmp_path / "runs.csv"), ["P", "examples", " test error"])
    for own, theirs in zip(columns(read), columns(runs), strict=True):
        assert own.to_numpy() == pytest.approx(theirs.to_numpy())


def command(*arguments):
    app = typer.Typer()
    app.command()(laws)
    return app([str(a) for a in arguments], standalone_mode=False)


def test_the_command_prints_json_or_text_and_draws(tmp_path, runs, capsys):
    file = tmp_path / "runs.csv"
    runs.to_csv(file, index=False)
    common = ("--csv", file, "--columns", "params,examples,loss", "--budget", "1e18", "--draws", "20")
    command(*common, "--json", "--plot", tmp_path / "laws.png")
    assert json.loads(capsys.readouterr().out)["recommendation"]["varpro"]["budget"] == 1e18
    assert (tmp_path / "laws.png").stat().st_size > 1000
    command(*common)
    assert "For a budget of 1e+18" in capsys.readouterr().out
    with pytest.raises(UserError, match="cannot write the figure"):
        command(*common, "--plot", tmp_path / "laws.nosuch")
    with pytest.raises(UserError, match="budget is inf"):
        command("--csv", file, "--budget", "inf")


def test_groups_are_fitted_apart_each_as_if_it_were_alone(tmp_path, runs, capsys):
    """Two families, of which the second has three times the loss: the same exponents, and three times A, B and E."""
    both = pd.concat([runs.assign(family="B-MLP"), runs.assign(family="a/b", loss=3 * runs["loss"])])
    both.to_csv(tmp_path / "runs.csv", index=False)
    alone = report(runs, ["params", "examples", "loss"], draws=20)
    common = ("--csv", tmp_path / "runs.csv", "--group", "family", "--draws", "20")
    command(*common, "--json", "--plot", tmp_path / "laws.png")
    found = json.loads(capsys.readouterr().out)["groups"]
    assert list(found) == ["B-MLP", "a/b"] and found["B-MLP"] == alone
    first, second = (found[name]["joint"]["varpro"] for name in found)
    assert second["alpha"] == pytest.approx(first["alpha"], rel=1e-3)
    assert second["A"] == pytest.approx(3 * first["A"], rel=1e-2)
    assert (tmp_path / "laws-B-MLP.png").exists() and (tmp_path / "laws-a_b.png").exists()
    command(*common)
    assert "family B-MLP" in (text := capsys.readouterr().out) and "family a/b" in text
    with pytest.raises(UserError, match="no column 'kind' to group by; there are"):
        command("--csv", tmp_path / "runs.csv", "--group", "kind")
    both[:8].assign(family=["x"] * 7 + ["y"]).to_csv(tmp_path / "few.csv", index=False)
    with pytest.raises(UserError, match="^family x: every run has examples"):
        command("--csv", tmp_path / "few.csv", "--group", "family", "--draws", "20")
    both.assign(family=[None] + ["x"] * (len(both) - 1)).to_csv(tmp_path / "gap.csv", index=False)
    with pytest.raises(UserError, match="family is missing in row 1"):
        command("--csv", tmp_path / "gap.csv", "--group", "family")


def test_neither_torch_nor_matplotlib_is_loaded():
    code = (
        "import sys, mlp_lib.cli.laws, mlp_lib.stats.laws.bias, mlp_lib.stats.laws.worth; "
        "sys.exit(bool({'torch', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
