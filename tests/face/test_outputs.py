"""A figure for each output: what a large output would hide of a small one."""

import numpy as np
import pytest

import planish as api
from planish.debugging.blame import Subject, blame
from planish.ir.graph import Graph, Loc, graph_input
from planish.ir.ops.dense import dense
from planish.ir.ops.elementwise import sub
from planish.ir.text import save
from planish.ir.types import F32, TensorType
from planish.measuring import by_output, levels, worst
from planish.runtime.data import Dataset

RANDOM = np.random.Generator(np.random.PCG64(3))


def normal(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


@pytest.fixture(scope="module")
def model():
    """Two outputs: one of which int8 loses nothing, a thousand times as large; and what is left of two like layers."""
    x = graph_input("x", TensorType((1, 8), F32))
    w, b = normal(4, 8), normal(4)
    near = [dense(x, v, b, loc=Loc((n,)), named=n) for n, v in (("first", w), ("second", w + normal(4, 8) / 500))]
    large = dense(x, 1000 * normal(4, 8), normal(4), loc=Loc(("large",)), named="big")
    return Graph([x], [large, sub(*near, loc=Loc(("rest",)))], ["large", "rest"], "two_outputs")


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs")
    save(model, folder / "model.planish")
    np.savez(folder / "data.npz", x=normal(24, 1, 8))
    return folder


@pytest.fixture(scope="module")
def build(planish, folder, require_tool):
    require_tool("cc")
    data = folder / "data.npz"
    done = planish(
        "compile", folder / "model.planish", "-t", "c", "--quantize", "int8", "--calib", data, "-o", folder / "b"
    )
    assert done.code == 0, done.err
    return done


def test_an_output_that_is_lost_is_remarked_when_compiling(build):
    (remark,) = [line for line in build.err.splitlines() if "output rest: SQNR" in line]
    assert "24 calibration samples" in remark
    assert "output large" not in build.err


def test_verify_has_a_figure_for_each_output(planish, folder, build):
    done = planish("verify", folder / "b", "--data", folder / "data.npz", "--json")
    found = done.json["outputs"]
    assert set(found) == {"large", "rest"}
    assert found["large"]["sqnr_db"] > 30
    assert found["rest"]["sqnr_db"] < 10
    assert done.json["sqnr_db"] == found["rest"]["sqnr_db"]
    assert done.json["agreement"] == min(f["agreement"] for f in found.values())
    said = planish("verify", folder / "b", "--data", folder / "data.npz").out
    assert f"{found['large']['sqnr_db']:.1f}" in said
    assert f"{found['rest']['sqnr_db']:.1f}" in said
    page = (folder / "b" / "report.html").read_text()
    assert f"SQNR {found['rest']['sqnr_db']:.1f} dB" in page
    assert f"SQNR {found['large']['sqnr_db']:.1f} dB" in page


def test_blame_ranks_for_each_output(planish, folder, build):
    done = planish("debug", "blame", folder / "b", "--data", folder / "data.npz", "--json").json
    assert done["sqnr_db"] == min(f["sqnr_db"] for f in done["outputs"].values())
    assert done["worst_by_output"]["large"][0] in ("x", "big")
    assert "big" not in done["worst_by_output"]["rest"]
    assert set(done["worst_by_output"]["rest"]) >= {"first", "second"}
    assert "loses most of rest: 1" in planish("debug", "blame", folder / "b", "--data", folder / "data.npz").out


def test_blame_leaves_out_what_the_worst_output_suffers_from(model):
    samples = normal(24, 1, 8)
    dataset = Dataset({"x": samples}, None, "drawn")

    def rebuild(names):
        excluded = f",exclude=[{','.join(names)}]" if names else ""
        pipeline = f"quantize{{calibration=minmax{excluded}}},fold-quantization"
        return api.optimize(model, pipeline, calibration=dataset)

    found = blame(Subject(model, rebuild(()), dataset, rebuild), tries=2)
    assert set(found.exclusions[-1].names) == {"first", "second"}
    assert found.exclusions[-1].outputs_db["rest"] > found.outputs_db["rest"]


def test_what_both_have_is_no_noise_and_nothing_is_not_equal(model):
    one = {"large": np.array([[1.0, np.inf, np.nan, 2.0]]), "rest": np.array([[0.0, 0.0, 0.0, 0.0]])}
    other = {"large": np.array([[1.0, np.inf, np.nan, 2.2]]), "rest": np.array([[0.0, 1.0, 0.0, 0.0]])}
    found = levels(model, other, one)
    assert found["large"] == pytest.approx(10 * np.log10(5 / 0.04))
    assert found["rest"] == -200  # there was no signal, and now there is noise
    assert worst(found) == -200
    assert by_output(model, one, one)["large"]["sqnr_db"] is None
