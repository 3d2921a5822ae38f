"""Indices as arithmetic: the same as the table, wherever it is taken, and taken where a stride says it."""

import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from planish.backends.cortexm.code import Code, Module
from planish.backends.cortexm.kernels import PORTABLE
from planish.backends.cortexm.render import CRenderer
from planish.backends.cortexm.target import CTarget
from planish.backends.indices import LONG, Quotient, Runs, arithmetic
from planish.backends.kernel import choose
from planish.backends.loops.expressions import Variable
from planish.backends.loops.kernels.move import picked
from planish.backends.tvm.kernels import KERNELS as TIR
from planish.ir.evaluate import evaluate
from planish.ir.graph import Graph, apply, graph_input
from planish.ir.ops.index import gather
from planish.ir.ops.resize import Coordinates, ResizeLinear, ResizeNearest, Rounding, nearest_taps
from planish.ir.types import F32, I8, I32, NHWC, TensorType
from planish.runtime.target import Limits
from tests.support.emitted import require_equal, run_for

progressions = st.builds(
    lambda first, step, count: [abs(first + i * step) for i in range(count)],
    st.integers(0, 50), st.integers(-3, 3), st.integers(1, 40),
)  # fmt: skip
quotients = st.builds(
    lambda offset, divisor, count: [max(0, i + offset) // divisor for i in range(count)],
    st.integers(-3, 9), st.integers(1, 9), st.integers(1, 80),
)  # fmt: skip
tables = st.lists(st.integers(0, 9), min_size=1, max_size=40)
several = st.lists(progressions, min_size=1, max_size=6).map(lambda parts: list(itertools.chain(*parts)))
indices = st.one_of(tables, quotients, several)


def entries_of(form, count):
    """What the arithmetic says, element by element."""
    if isinstance(form, Quotient):
        return [int((i + form.offset) / form.divisor) for i in range(count)]
    runs = [max((r for r in form.runs if r.start <= i), key=lambda r: r.start) for i in range(count)]
    return [run.offset + i * run.step for i, run in enumerate(runs)]


def in_c(entries):
    """The C expression evaluated as Python's, the same where nothing negative is divided; None for a table."""
    index = picked("table", np.array(entries, np.int32))(Variable(I32, "i0"))
    text = CRenderer(Code(Module("m"), "layer")).expression(index)
    expression = _python(text).replace(" / ", " // ")
    return None if "[" in text else [eval(expression, {"i0": i}) for i in range(len(entries))]  # our text


def _python(text):
    whole = text[1:-1] if text.startswith("(") and text.endswith(")") else text
    condition, _, rest = whole.partition(" ? ")
    chosen, _, other = rest.partition(" : ")
    return f"({chosen}) if ({condition}) else ({_python(other)})" if rest else whole


@given(indices)
def test_arithmetic_is_the_table(entries):
    form = arithmetic(np.array(entries, np.int32))
    assert form is None or entries_of(form, len(entries)) == entries
    if not isinstance(form, Quotient) or form.offset >= 0:
        assert in_c(entries) in (None, entries)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(31, 60), st.sampled_from(["edge", "reflect"]))
def test_repeated_and_reflected_edges_are_progressions(before, after, size, mode):
    entries = np.pad(np.arange(size), (before, after), mode=mode).astype(np.int32)
    form = arithmetic(entries)
    assert isinstance(form, Runs)
    assert len(form.runs) <= 3


@pytest.mark.parametrize("factor", [2, 3, 8])
@pytest.mark.parametrize("coordinates", [Coordinates.half_pixel, Coordinates.asymmetric])
def test_an_axis_that_is_enlarged_is_a_quotient(factor, coordinates):
    for size in (LONG, 5):
        op = ResizeNearest((factor * size, factor * size), (factor, factor), coordinates, Rounding.floor)
        form = arithmetic(nearest_taps(op, 0, size))
        is_short = size < LONG
        assert isinstance(form, Quotient) or (is_short and factor == 3) or coordinates is Coordinates.half_pixel


def test_progressions_stay_within_32_bits():
    far = np.arange(10, dtype=np.int32) * (1 << 27)
    assert arithmetic(np.concatenate([np.zeros(1000, np.int32), far])) is None


def moves():
    """A gather of each kind along each place of an axis, and images that are enlarged."""
    x = graph_input("x", TensorType((2, 40, 3), I8))
    image = graph_input("image", TensorType((1, 5, 6, 2), I8))
    edges = [np.pad(np.arange(40), (7, 9), mode=mode) for mode in ("edge", "reflect")]
    picked = [np.arange(40)[::-1], np.arange(0, 40, 3), np.arange(90) // 4, np.zeros(40), [5], [3, 1, 2, 2, 0], *edges]
    taken = [gather(x, axis=1, indices=tuple(map(int, i))) for i in picked]
    taken.append(gather(x, axis=2, indices=(2, 1, 0)))
    for size, scales in (((10, 24), (2.0, 4.0)), ((15, 6), (3.0, 1.0)), ((2, 9), (0.4, 1.5))):
        for coordinates in (Coordinates.asymmetric, Coordinates.half_pixel):
            op = ResizeNearest(size, scales, coordinates, Rounding.floor, NHWC)
            taken.append(apply(op, image).result)
    graph = Graph([x, image], taken, [f"y{i}" for i in range(len(taken))])
    return graph, [np.random.default_rng(0).integers(-128, 128, v.type.shape).astype(np.int8) for v in graph.inputs]


def test_the_c_of_each_kind_moves_what_the_op_means(require_tool):
    require_tool("cc")
    graph, arrays = moves()
    require_equal(graph, [arrays])


def test_the_machine_code_of_each_kind_moves_what_the_op_means(require_tool, tvm):
    require_tool("cc")
    graph, arrays = moves()
    outputs = run_for("tvm", graph, dict(zip(graph.input_names, arrays, strict=True)))
    for name, wanted in zip(graph.output_names, evaluate(graph, arrays), strict=True):
        np.testing.assert_array_equal(outputs[name], wanted, err_msg=name)


def test_a_reversed_axis_of_a_million_has_no_table(tmp_path):
    x = graph_input("x", TensorType((1 << 20,), F32))
    graph = Graph([x], [gather(x, axis=0, indices=tuple(range((1 << 20) - 1, -1, -1)))], ["y"])
    assert CTarget("c").emit(graph, tmp_path, "model", Limits()).facts["constant_bytes"] == 0


@pytest.mark.parametrize("kernels", [PORTABLE, TIR])
@pytest.mark.parametrize("op", [ResizeNearest, ResizeLinear])
def test_more_rows_than_tables_may_have_are_refused(kernels, op):
    x = graph_input("x", TensorType((1, 1, 1, 4), F32))
    node = apply(op((1, 1 << 25), (1.0, float(1 << 23))), x)
    choice = choose(node, kernels)
    assert choice.kernel is None
    assert "tables" in choice.reason.reason
