"""Families of penalties by name: numbers, factors that enter together, hints."""

import numpy as np
import pytest

import jaxreg as jr
from jaxreg.cli.families import FAMILIES, DataForm, described, member, parse
from jaxreg.cli.main import main

GROUPS = DataForm(np.array([0, 1, 1]))


def test_names_and_numbers():
    plain = DataForm()
    assert member("l1", plain).label == "L1" and isinstance(member("L2", plain).family(1.0), jr.SquaredL2)
    found = member("elastic-net:0.25", plain)
    assert found.label == "elastic net 0.25" and float(found.family(2.0).l1_ratio) == 0.25
    assert member("elastic-net", plain).label == "elastic net 0.5"
    assert float(member("mcp:2.5", plain).family(1.0).gamma) == 2.5
    nonnegative = member("nonnegative-l1", plain).family(1.0)
    assert nonnegative.prox(np.array([-3.0, 3.0]), 1.0).tolist() == [0.0, 2.0]


def test_factors_enter_together_where_the_family_allows():
    v = np.array([0.5, 0.9, 3.0])
    for name in ("l1", "elastic-net:1", "group"):
        shrunk = member(name, GROUPS).family(0.4).prox(v, 1.0)
        assert np.allclose(shrunk, jr.GroupL2(0.4, [0, 1, 1]).prox(v, 1.0)), name
    assert member("l1", GROUPS).label == "L1 (whole factors)"
    assert isinstance(member("mcp", GROUPS).family(1.0), jr.penalties.GroupMCP)
    assert isinstance(member("l2", GROUPS).family(1.0), jr.SquaredL2) and not member("l2", GROUPS).note
    assert "SCAD 3.7 has no form for whole factors" in member("scad", GROUPS).note


def test_families_without_a_threshold():
    without = {name for name in FAMILIES if not member(name, DataForm(GROUPS.groups, 3)).thresholds}
    assert without == {"l2", "nonnegative-l2"} and not member("elastic-net:0", DataForm()).thresholds


#: Families whose paths other tests do not solve; the others are solved before a release.
QUICK = ("group-mcp", "l1", "nonnegative-l2", "rows")
EVERY = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in FAMILIES]


@pytest.mark.slow_except("l1")
@pytest.mark.parametrize("name", EVERY)
def test_every_family_solves_a_path(name):
    """Three classes and groups, which all families accept, in one shape."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 3))
    problem = jr.Problem(jr.losses.Multinomial(3), X, np.arange(30) % 3, standardize=True)
    found = member(name, DataForm(GROUPS.groups, 3))
    path = jr.path(problem, found.family, num=3, ratio=0.1 if found.thresholds else 1e-4, tol=1e-4)
    assert path.converged.all() and np.abs(path.coef[-1]).max() > 0


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("lasso", "its name here is l1"),
        ("ridge", "its name here is l2"),
        ("group-lasso", "its name here is group"),
        ("elasticnet", "its name here is elastic-net:0.5"),
        ("huber", "it is a loss, which --loss huber sets"),
        ("l7", "did you mean"),
        ("mcp:0.5", "a number above 1; try mcp:3"),
        ("scad:x", "a number above 2"),
        ("sparse-group:2", "an L1 ratio between 0 and 1"),
        ("l1:3", "which takes none"),
    ],
)
def test_refusals(name, part):
    with pytest.raises(ValueError, match=part):
        parse(name)


def test_the_list_of_penalties(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["penalties"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, _ in described():
        assert any(line.startswith(name) for line in lines), name
    assert max(map(len, lines)) <= 100
