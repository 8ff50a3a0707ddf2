"""The benchmark of accelerators, at tiny sizes on the device at hand."""

import json

import jax
import jax.numpy as jnp
import pytest

from experiments.benchmarks import gpu
from experiments.benchmarks._profile import kernels, profile

TINY = gpu.Sizes(64, 1, ((40, 60),), (5,), (3,), (1,), 4, 5)
GAPS = {"float32": (1e-4, 1e-5), "float64": (1e-4, 1e-6)}


def run(out, dtype, *options):
    """Run the command with paths in one precision, and return its output."""
    cached = jax.config.jax_enable_compilation_cache
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "QUICK", TINY)
        patch.setattr(gpu, "GAPS", {dtype: GAPS[dtype]})
        patch.setattr(gpu, "profile", lambda call: kernels([]))  # profiling takes seconds for each row
        assert gpu.main(["--quick", "--out", str(out), *options]) == 0
    jax.config.update("jax_enable_compilation_cache", cached)  # the command turns it off
    return json.loads(out.read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=["float32", "float64"])
def measured(request, tmp_path_factory):
    """The output of the command with all parts."""
    return run(tmp_path_factory.mktemp("gpu") / "gpu.json", request.param)


def test_one_part_alone(tmp_path):
    found = run(tmp_path / "gpu.json", "float32", "--parts", "rates")
    assert list(found["parts"]) == ["rates"] and found["versions"]["jax"]
    assert all(row["per second"] > 0 for row in found["parts"]["rates"])


@pytest.mark.slow
def test_every_part_is_there(measured):
    assert list(measured["parts"]) == list(gpu.PARTS)
    assert measured["date"] and measured["versions"]["jax"] and ":" in measured["device"]
    assert all(row["per second"] > 0 for row in measured["parts"]["rates"])


def test_a_call_is_profiled():
    found = profile(lambda: jnp.ones(3) + 1)
    assert set(found) == {"largest kernels", "copies"}


@pytest.mark.slow
def test_certificates_hold_in_double_precision(measured):
    rows = measured["parts"]["paths"]
    several = len(TINY.designs) * len(TINY.lambdas)
    rough = ["rough" in row["case"] for row in rows]
    assert len(rows) == several * 2 + sum(rough) and any(rough) == ("float32" in rows[0]["case"])
    assert [row["host calls"] for row in rows if "host calls" in row] == several * [0]
    for row in rows:
        tol, single = float(row["case"].split()[-1]), "float32" in row["case"]
        assert row["converged"] == 5
        # In float32 the gap is exact up to rounding.
        assert row["largest gap in float64"] <= tol + (1e-6 if single else 1e-12)
        if "rough" in row["case"]:
            continue
        first = tol == 1e-4
        assert (row["cold"] > row["seconds"]) if first else row["cold"] is None
        assert row["seconds"] > 0 and 0 <= row["waiting"] < 1
        assert row["of product"] > 0 and row["of copy"] > 0 and row["x CPU"] > 0


@pytest.mark.slow
def test_lanes_are_counted(measured):
    assert [row["case"] for row in measured["parts"]["lassos"]] == ["3 lanes"]
    assert measured["parts"]["lassos"][0]["converged"] == 3
    trainings = measured["parts"]["trainings"]
    for row in [*measured["parts"]["lassos"], *trainings]:
        assert row["of product"] > 0 and row["of copy"] > 0
    assert all(row["x one lane"] > 0 for row in trainings)
    assert [row["case"] for row in trainings] == [
        "1 lanes",
        "4 lanes at once, all that were tried",
    ]


def test_calls_to_the_host_are_counted():
    def calls_host(x):
        return jax.pure_callback(lambda x: x, jax.ShapeDtypeStruct(x.shape, x.dtype), x) + 1

    text = jax.jit(calls_host).lower(jnp.ones(3)).compile().as_text()
    assert len(gpu._HOST.findall(text)) == 1


def test_kernels_of_a_device_and_copies_are_read_from_a_trace():
    def event(pid, name, dur):
        return {"ph": "X", "pid": pid, "tid": 1, "name": name, "dur": dur}

    events = [
        {"ph": "M", "pid": 1, "name": "process_name", "args": {"name": "/device:GPU:0"}},
        {"ph": "M", "pid": 2, "name": "process_name", "args": {"name": "/host:CPU"}},
        event(1, "gemm_3", 60), event(1, "gemm_4", 20), event(1, "fusion.7", 10),
        event(1, "MemcpyD2H", 6), event(1, "reduce", 4), event(2, "python", 900),
    ]  # fmt: skip
    found = kernels(events)
    assert found["largest kernels"] == {"gemm": 0.8, "fusion": 0.1, "MemcpyD2H": 0.06}
    assert found["copies"] == 1
    assert kernels([]) == {"largest kernels": None, "copies": None}


def test_only_some_parts(capsys):
    with pytest.raises(SystemExit):
        gpu.main(["--parts", "rate"])
    assert "invalid choice: 'rate'" in capsys.readouterr().err
