"""Data fits the graph that it is for, or an error says which input it does not fit and how it should look."""

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planish.ir.builder import const_value
from planish.ir.errors import UsageError
from planish.ir.graph import Graph, graph_input
from planish.ir.ops.elementwise import relu
from planish.ir.types import BOOL, F32, I8, Sym, TensorType
from planish.runtime import data
from planish.runtime.data import Arrays, read, uniform


def graph_of(shape, dtype=F32):
    x = graph_input("x", TensorType(shape, dtype))
    return Graph([x], [relu(x)], ["y"])


def npz(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


@pytest.mark.parametrize("further_axis", [False, True])
@pytest.mark.parametrize("batch", [1, 2, Sym("N")])
def test_samples_lie_along_the_batch_axis_or_a_further_one(tmp_path, batch, further_axis):
    size = batch if isinstance(batch, int) else 1
    x = np.arange(6 * 3, dtype=np.float32).reshape(6, 3)
    labels = np.arange(6) % 3
    given = x.reshape(-1, size, 3) if further_axis else x
    data = read(npz(tmp_path / "d.npz", x=given, labels=labels)).of(graph_of((batch, 3)))
    assert data.arrays["x"].shape == (6 // size, size, 3)
    assert data.arrays["x"].ravel().tolist() == x.ravel().tolist()
    assert data.labels is not None
    assert data.labels.ravel().tolist() == labels.tolist()
    assert [sample["x"].shape for sample in data] == [(size, 3)] * len(data)
    assert data.ranges() == {"x": (0, 17)}
    assert len(data.first(2)) == 2
    first = data.first(2).labels
    assert first is not None
    assert len(first) == 2


@given(st.integers(-100, 100), st.integers(1, 50), st.sampled_from([F32, I8]))
def test_random_samples_are_in_their_range_and_the_same_each_time(lo, width, dtype):
    text = f"random:{lo},{lo + width}"
    a, b = (read(text).of(graph_of((1, 4), dtype), 7) for _ in range(2))
    assert a.arrays["x"].dtype == dtype.numpy
    assert a.arrays["x"].shape == (7, 1, 4)
    assert a.arrays["x"].min() >= lo
    assert a.arrays["x"].max() <= lo + width
    assert a.arrays["x"].tobytes() == b.arrays["x"].tobytes()
    assert text in a.source
    assert "seed 0" in a.source


def test_ranges_of_each_input():
    data = uniform({"x": (5, 6)}).of(graph_of((Sym("N"), 2)), 3)
    assert data.arrays["x"].shape == (3, 1, 2)
    assert 5 <= data.ranges()["x"][0] <= data.ranges()["x"][1] <= 6


@pytest.mark.parametrize("text", ["random:", "random:1", "random:1,2,3", "random:a,b", "random:1,1", "random:0,inf"])
def test_a_wrong_range_is_an_error(text):
    with pytest.raises(UsageError, match="random") as error:
        read(text)
    assert "random:lo,hi" in error.value.fix


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({}, "'x'"),
        ({"y": np.zeros((2, 3))}, "'y'"),
        ({"x": np.zeros((2, 4))}, "shape"),
        ({"x": np.zeros((2,))}, "shape"),
        ({"x": np.zeros((2, 1, 1, 3))}, "shape"),
        ({"x": np.zeros((0, 3))}, "no sample"),
        ({"x": np.full((2, 3), np.nan)}, "NaN"),
        ({"x": np.full((2, 3), "a")}, "numbers"),
        ({"x": np.zeros((2, 3)), "labels": np.zeros(2)}, "labels"),
        ({"x": np.zeros((2, 3)), "labels": np.zeros(3, int)}, "labels"),
    ],
)
def test_data_that_does_not_fit_is_an_error(arrays, says):
    with pytest.raises(UsageError, match=says):
        Arrays("d.npz", arrays).of(graph_of((1, 3)))


def test_integers_must_hold_the_numbers():
    graph = graph_of((1, 3), I8)
    assert Arrays("d.npz", {"x": np.array([[1.0, 2, -128]])}).of(graph).arrays["x"].dtype == np.int8
    for bad in (200, 0.5):
        with pytest.raises(UsageError, match="i8"):
            Arrays("d.npz", {"x": np.array([[1.0, 2, bad]])}).of(graph)


def pickled(path):
    np.savez(path, x=np.array([{}], object))


def empty(path):
    path.write_bytes(b"")


def text(path):
    path.write_text("<html>")


def truncated(path):
    np.savez_compressed(path, x=np.zeros((100, 3)))
    path.write_bytes(path.read_bytes()[:-100])


def corrupt(path):
    np.savez_compressed(path, x=np.random.default_rng(0).random((100, 3)))
    content = bytearray(path.read_bytes())
    content[200:300] = bytes(100)
    path.write_bytes(content)


def bomb(path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (2**40,)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", header.getvalue())


@pytest.mark.parametrize("damage", [pickled, empty, text, truncated, corrupt, bomb])
def test_a_damaged_file_is_an_error(tmp_path, damage):
    damage(tmp_path / "d.npz")
    with pytest.raises(UsageError, match=r"d\.npz"):
        read(tmp_path / "d.npz").of(graph_of((1, 3)))


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        read(tmp_path / "d.npz")
    with pytest.raises(UsageError, match="folder"):
        read(tmp_path)


def test_a_constant_graph_has_no_samples():
    graph = Graph([], [const_value(np.zeros(3, np.float32))], ["y"])
    with pytest.raises(UsageError, match="no input"):
        read("random:0,1").of(graph)
    with pytest.raises(UsageError, match="no input"):
        Arrays("d.npz", {}).of(graph)


@pytest.mark.parametrize(("elements", "samples"), [(8, 100), (1 << 20, 32), (1 << 24, 2), (1 << 28, 1)])
def test_fewer_samples_are_drawn_for_graphs_that_make_much(elements, samples, monkeypatch):
    monkeypatch.setattr(data, "_draw", lambda random, type, lo, hi, count: np.empty((count, 0)))
    assert len(read("random:0,1").of(graph_of((1, elements)))) == samples


def test_samples_that_no_machine_holds_are_refused():
    with pytest.raises(UsageError, match="1000 samples of 134,217,728 bytes"):
        read("random:0,1").of(graph_of((1, 1 << 25)), 1000)


@pytest.mark.parametrize("dtype", [F32, I8, BOOL])
def test_drawing_in_parts_draws_the_same(dtype, monkeypatch):
    x = graph_input("x", TensorType((3, 7), dtype))
    graph = Graph([x], [x], ["y"])
    whole = read("random:-1,1").of(graph, 5).arrays["x"]
    monkeypatch.setattr(data, "PART", 4)
    assert np.array_equal(read("random:-1,1").of(graph, 5).arrays["x"], whole)
