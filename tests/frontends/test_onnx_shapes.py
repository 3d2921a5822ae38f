"""Shapes that are computed while a dimension is a symbol: what is known of them, made with them, told of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto as T
from onnx import helper, numpy_helper

from planish.driver import read_model
from planish.frontends.onnx import load
from planish.frontends.onnx.importer import Importer
from planish.frontends.onnx.source import Dims, Unknown
from planish.ir.errors import ModelError, PlanishError, UnsupportedError
from planish.ir.evaluate import evaluate
from planish.ir.types import Sym
from tests.support.operators import runtime


class Program:
    """Nodes on the shape of x, drawn one by one; each tensor's type is what onnx itself computes for one size of N."""

    def __init__(self, shape, opset=17):
        self.shape, self.opset = shape, opset
        self.nodes, self.constants, self.count = [], {}, 0

    def const(self, value, dtype=np.int64):
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value, dtype)
        return name

    def add(self, op, *inputs, **attributes):
        self.count += 1
        output = f"t{self.count}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], **attributes))
        return output

    def model(self, output):
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", T.FLOAT, list(self.shape))],
            [helper.make_empty_tensor_value_info(output)],
            [numpy_helper.from_array(v, k) for k, v in self.constants.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


def saved(path, proto):
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.fixture(scope="session")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("shapes") / "model.onnx"


def known(model, name):
    """What the importer knows of a tensor, while N is a symbol; None where it refused the node."""
    importer = Importer(model, (), {}, {}, [])
    try:
        graph = importer.run()
    except UnsupportedError:
        pass
    else:
        return graph.outputs[0].const
    return importer.tensors.get(name)


PAIRS = ["Add", "Sub", "Mul", "Max", "Min", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"]
QUOTIENTS = ["Div", "Mod"]  # by positive numbers: what others do with a zero is their business
STEPS = [
    "pair", "quotient", "cast", "gather", "slice", "concat", "reduce", "rank", "reshape", "pad", "expand", "tile",
    "where",
]  # fmt: skip
KEEP_SIGN = {"gather", "slice", "rank", "reshape", "expand", "tile"}


def grown(draw, program, size):
    """Tensors that a few drawn operators compute from the shape of x, with their values for one size of N.

    A step is kept only where ONNX Runtime takes it, so that what is drawn is valid by somebody else's rules.
    """
    pool = {program.add("Shape", "x"): np.array([size if d == "N" else d for d in program.shape])}
    positive = set(pool)
    for _ in range(draw(st.integers(1, 6))):
        a, kind, before = draw(st.sampled_from(list(pool))), draw(st.sampled_from(STEPS)), list(program.nodes)
        output = step(draw, program, kind, a, pool, positive)
        value = shaped(program, output, size)
        if value is None or not np.all(np.abs(value.astype(float)) < 1e6):
            program.nodes = before
            continue
        pool[output] = value
        if kind in KEEP_SIGN and a in positive:
            positive.add(output)
    return pool


def step(draw, program, kind, a, pool, positive):
    x, add, const = pool[a], program.add, program.const
    rank, dtype = x.ndim, x.dtype
    numbers = st.integers(-2, 5)

    def alike(names, least):
        """Another operand of the same dtype."""
        others = [k for k in names if pool[k].dtype == dtype]
        return draw(st.sampled_from([*others, const(draw(st.integers(least, 5)), dtype)]))

    if kind == "pair":
        return add(draw(st.sampled_from(PAIRS)), *draw(st.permutations([a, alike(pool, -2)])))
    if kind == "quotient":
        return add(draw(st.sampled_from(QUOTIENTS)), a, alike(sorted(positive), 1))
    if kind == "cast":
        return add("Cast", a, to=draw(st.sampled_from([T.INT64, T.INT32, T.FLOAT, T.BOOL])))
    if kind == "gather":
        return add("Gather", a, const(draw(st.one_of(st.integers(-2, 3), st.lists(st.integers(-2, 3), max_size=3)))))
    if kind == "slice":
        start, end = draw(st.integers(-3, 4)), draw(st.integers(-3, 4))
        return add("Slice", a, const([start]), const([end]), const([0]), const([draw(st.sampled_from([1, 2, -1]))]))
    if kind == "concat":
        return add(
            "Concat",
            *draw(st.permutations([a, alike(pool, -2) if rank == 0 else const([draw(numbers)], dtype)])),
            axis=0,
        )
    if kind == "reduce":
        op, keepdims = (
            draw(st.sampled_from(["ReduceProd", "ReduceSum", "ReduceMax", "ReduceMin"])),
            draw(st.integers(0, 1)),
        )
        if op == "ReduceSum":
            return add(op, a, const([0]), keepdims=keepdims)
        return add(op, a, axes=[0], keepdims=keepdims)
    if kind == "rank":
        return add(*draw(st.sampled_from([("Unsqueeze", a, const([0])), ("Squeeze", a), ("Identity", a)])))
    if kind == "reshape":
        return add("Reshape", a, const(draw(st.sampled_from([[-1], [1, -1], [-1, 1], []])) or np.zeros(0)))
    if kind == "pad":
        return add("Pad", a, const([draw(st.integers(0, 2)) for _ in range(2 * rank)]), const(draw(numbers), dtype))
    if kind == "tile":
        return add("Tile", a, const([draw(st.integers(1, 2))] * rank))
    if kind == "expand":
        return add("Expand", a, const([2, *x.shape]))
    flags = [k for k, v in pool.items() if v.dtype == np.bool_]
    return add("Where", draw(st.sampled_from([*flags, const([True], np.bool_)])), a, alike(pool, -2))


def shaped(program, output, size):
    """What ONNX Runtime computes for this N; None where it takes no such model."""
    results = runtime(program.model(output), {"x": np.zeros([size if d == "N" else d for d in program.shape], "f")})
    return None if results is None else np.asarray(results[0])


@given(st.data())
def test_what_is_known_of_shapes_is_right_for_every_size(data):
    draw = data.draw
    program = Program(draw(st.permutations(["N", 4, draw(st.integers(1, 6)), 1])))
    first = draw(st.integers(1, 6))
    pool = grown(draw, program, first)
    output = draw(st.sampled_from(list(pool)))
    ours = known(program.model(output), output)
    for size in (first, draw(st.integers(1, 12))):
        theirs = shaped(program, output, size)
        if theirs is None or not np.all(np.abs(theirs.astype(float)) < 2**31):
            continue
        if not isinstance(ours, Dims):
            assert ours is None or (np.array_equal(ours, theirs) and ours.dtype == theirs.dtype)
            continue
        assert (ours.elements.shape, ours.dtype.numpy) == (theirs.shape, theirs.dtype)
        for element, value in zip(ours.elements.flat, theirs.flat, strict=True):
            if not isinstance(element, Unknown):
                assert value == (element.factor * size if isinstance(element, Sym) else element)


# ---- what is made with such shapes


def batch(p):
    """The vector [N]."""
    return p.add("Gather", p.add("Shape", "x"), p.const([0]))


def scalar_batch(p):
    return p.add("Gather", p.add("Shape", "x"), p.const(0))


def vector(p, *parts):
    """Concatenated; numbers are constants."""
    return p.add("Concat", *(part if isinstance(part, str) else p.const([part]) for part in parts), axis=0)


def with_batch(p, *rest, first=()):
    return vector(p, *first, batch(p), *rest)


def in_int32(p):
    s = p.add("Cast", p.add("Shape", "x"), to=T.INT32)
    n = p.add("Slice", s, p.const([0]), p.const([1]), p.const([0]))
    c = p.add("Slice", s, p.const([1]), p.const([2]), p.const([0]))
    whole = p.add("Concat", n, p.add("Mul", c, p.const([2], np.int32)), p.const([-1], np.int32), axis=0)
    return p.add("Reshape", "x", p.add("Cast", whole, to=T.INT64))


def counted_rest(p):
    s = p.add("Shape", "x")
    rest = p.add("Slice", s, p.const([1]), p.const([2**31 - 1]), p.const([0]))
    return p.add("Reshape", "x", p.add("Concat", batch(p), p.add("ReduceProd", rest, keepdims=1), axis=0))


def rows_and_all_else(p):
    whole = p.add("ReduceProd", p.add("Shape", "x"), keepdims=1)
    each = p.add("Div", whole, batch(p))
    return p.add("Reshape", "x", p.add("Concat", batch(p), each, axis=0))


def heads(p):
    """As multi-head attention splits its heads: N * 2 of half the width."""
    n = p.add("Mul", scalar_batch(p), p.const(2))
    split = p.add("Concat", p.add("Unsqueeze", n, p.const([0])), p.const([2, 8, 4]), axis=0)
    parts = p.add("Transpose", p.add("Reshape", "x", split), perm=[1, 0, 2, 3])
    return p.add("Reshape", parts, with_batch(p, -1, first=(2,)))


def groups(p):
    """As view(b, g, c // g, h, w) is exported."""
    c = p.add("Div", p.add("Gather", p.add("Shape", "x"), p.const(1)), p.const(2))
    parts = p.add("Concat", batch(p), p.const([2]), p.add("Unsqueeze", c, p.const([0])), p.const([4, 4]), axis=0)
    mixed = p.add("Transpose", p.add("Reshape", "x", parts), perm=[0, 2, 1, 3, 4])
    return p.add("Reshape", mixed, with_batch(p, -1, 4, 4))


def expanded(p):
    """As expand(n, -1, 3) is exported: Where(shape == -1, 1, shape)."""
    wanted = with_batch(p, -1, 3)
    ones = p.add("ConstantOfShape", p.add("Shape", wanted), value=helper.make_tensor("v", T.INT64, [1], [1]))
    minus = p.add("Mul", ones, p.const(-1))
    sizes = p.add("Where", p.add("Equal", wanted, minus), ones, wanted)
    return p.add("Expand", p.const(np.arange(12).reshape(1, 4, 3), np.float32), sizes)


def scaled(p):
    """As an upsampling by 2 is exported: sizes in floats, rounded down."""
    s = p.add("Cast", p.add("Shape", "x"), to=T.FLOAT)
    sizes = p.add("Cast", p.add("Mul", s, p.const([1, 1, 2, 2], np.float32)), to=T.INT64)
    form = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return p.add("Resize", "x", "", "", sizes, **form)


def padded(p):
    """As pad() is exported: pads of the last axes first, completed with zeros, turned."""
    rank = p.add("Size", p.add("Shape", "x"))
    missing = p.add("Sub", p.add("Mul", rank, p.const(2)), p.const(4))
    zeros = p.add(
        "ConstantOfShape", p.add("Unsqueeze", missing, p.const([0])), value=helper.make_tensor("v", T.INT64, [1], [0])
    )
    pairs = p.add("Reshape", p.add("Concat", p.const([1, 0, 2, 1]), zeros, axis=0), p.const([-1, 2]))
    turned = p.add("Slice", pairs, p.const([-1]), p.const([-(2**63) + 1]), p.const([0]), p.const([-1]))
    return p.add("Pad", "x", p.add("Reshape", p.add("Transpose", turned, perm=[1, 0]), p.const([-1])))


PATTERNS = {
    "[N, 128]": lambda p: p.add("Reshape", "x", with_batch(p, 128)),
    "[N, -1]": lambda p: p.add("Reshape", "x", with_batch(p, -1)),
    "[-1, N]": lambda p: p.add("Reshape", "x", vector(p, -1, batch(p))),
    "[2N, -1]": lambda p: p.add("Reshape", "x", vector(p, p.add("Mul", batch(p), p.const([2])), -1)),
    "[N * all, ]": lambda p: p.add("Reshape", "x", p.add("ReduceProd", p.add("Shape", "x"))),
    "int32": in_int32, "counted rest": counted_rest, "all / N": rows_and_all_else, "heads": heads, "groups": groups,
    "expanded": expanded, "scaled": scaled, "padded": padded,
    "slice": lambda p: p.add("Slice", "x", p.const([0]), batch(p), p.const([0])),
    "slice further": lambda p: p.add("Slice", "x", p.const([0]), p.add("Mul", batch(p), p.const([2])), p.const([0])),
    "zeros": lambda p: p.add("Concat", "x", p.add("ConstantOfShape", with_batch(p, 2, 4, 4)), axis=1),
    "expand x": lambda p: p.add("Expand", "x", with_batch(p, 8, 4, 4)),
    "expand more": lambda p: p.add("Expand", "x", vector(p, 3, p.add("Shape", "x"))),
    "tile a row": lambda p: p.add("Tile", p.const([[1, 2, 3]], np.float32), vector(p, batch(p), 2)),
    "tile rows": lambda p: p.add("Tile", p.const([[1], [2]], np.float32), vector(p, batch(p), 1)),
    "tile x": lambda p: p.add("Tile", "x", p.const([2, 1, 1, 2])),
    "tile by one": lambda p: p.add("Tile", "x", vector(p, p.add("Div", batch(p), batch(p)), 1, 1, 2)),
    "state": lambda p: p.add("Expand", p.const(0, np.float32), with_batch(p, 8, first=(1,))),
}  # fmt: skip


def run(graph, model, size):
    """Our outputs are ONNX Runtime's, to the bit, and have the shapes that were inferred, at this size of the batch."""
    x = np.random.default_rng(0).normal(size=(size, 8, 4, 4)).astype(np.float32)
    (theirs,), (ours,) = runtime(model, {"x": x}), evaluate(graph, [x])
    np.testing.assert_array_equal(ours, theirs)
    (declared,) = (v.type.shape for v in graph.outputs)
    assert ours.shape == tuple(d.factor * size if isinstance(d, Sym) else d for d in declared)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_shapes_that_hold_the_batch(path, pattern):
    """Read with a symbol, and run with any size."""
    program = Program(["N", 8, 4, 4])
    model = program.model(PATTERNS[pattern](program))
    graph = load(saved(path, model))
    assert graph.inputs[0].type.shape[0] == Sym("N")
    for size in (1, 2, 5):
        run(graph, model, size)


@pytest.mark.parametrize("dim", ["N", None, -1])
def test_a_lone_batch_is_taken_as_one_while_reading(path, dim):
    """A slice that needs the batch is refused with a symbol; to compile, nobody has to say more."""
    program = Program([dim, 8, 4, 4])
    last = program.add("Slice", "x", program.const([-1]), batch(program), program.const([0]))
    model = program.model(program.add("Reshape", last, with_batch(program, -1)))
    with pytest.raises(UnsupportedError, match="must be known"):
        load(saved(path, model))
    read = read_model(path, {}, {}, static_batch=True)
    assert [note.partition(" (")[0] for note in read.notes] == [
        f"the batch dimension {'N' if dim == 'N' else 'x_0'} is taken as 1"
    ]
    run(read.graph, model, 1)


@pytest.mark.parametrize(
    ("shapes", "batch"),
    [
        ({"x": ["N", 3]}, "N"), ({"x": ["len", 3]}, "len"), ({"x": ["n", 3], "y": ["n"]}, "n"),
        ({"x": [12, "N", 6]}, "N"), ({"x": ["batch_size", 3], "h": [1, "batch_size", 8]}, "batch_size"),
        ({"x": [1, "len"]}, None), ({"x": ["N", "len"]}, None), ({"x": [1, 3]}, None),
        ({"x": ["len", 3], "y": [1]}, None),
    ],
)  # fmt: skip
def test_which_symbol_is_a_batch(path, shapes, batch):
    nodes = [helper.make_node("Relu", [name], [f"{name}_y"]) for name in shapes]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, T.FLOAT, shape) for name, shape in shapes.items()],
        [helper.make_tensor_value_info(f"{name}_y", T.FLOAT, None) for name in shapes],
    )
    saved(path, helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    read = read_model(path, {}, {}, static_batch=True)
    expected = [tuple(1 if d == batch else Sym(d) if isinstance(d, str) else d for d in s) for s in shapes.values()]
    assert [v.type.shape for v in read.graph.inputs] == expected


# ---- what is told


def wrong(p, op, *inputs, **attributes):
    with pytest.raises(PlanishError) as caught:
        load(saved(p, inputs[0].model(inputs[0].add(op, *inputs[1:], **attributes))))
    return caught.value


def test_all_missing_sizes_stand_in_one_line(path):
    program = Program(["N", 3, "H", "W"])
    weights = program.const(np.ones((4, 3, 3, 3)), np.float32)
    error = wrong(path, "Conv", program, "x", weights, auto_pad="SAME_UPPER")
    assert type(error) is UnsupportedError
    assert "must be known" in error.details[0]
    assert error.fix == "give --dim N=1 --dim H=... --dim W=..."


def test_names_of_dimensions_are_quoted_for_the_shell(path):
    program = Program(["a b;c", 3])
    error = wrong(path, "Slice", program, "x", program.const([1]), program.const([2]), program.const([0]))
    assert error.fix == "give --dim 'a b;c=1'"


def test_an_element_that_is_not_known_hurts_only_who_needs_it(path):
    program = Program(["N", 8, 4, 4])
    less = program.add("Sub", program.add("Shape", "x"), program.const([1]))
    pixels = program.add("Slice", less, program.const([2]), program.const([4]))
    program.add("Expand", program.const(0, np.float32), pixels)
    assert load(saved(path, program.model("t4"))).outputs[0].type.shape == (3, 3)
    error = wrong(path, "Expand", program, program.const(0, np.float32), less)
    assert "Sub(N, 1)" in error.details[0]
    assert error.fix == "give --dim N=1"


def test_whether_the_size_or_the_model_is_to_blame(path):
    """What no size of N would mend is not laid at its door."""
    program = Program(["N", 3])
    error = wrong(path, "Add", program, "x", program.const([[1, 2, 3, 4]], np.float32))
    assert type(error) is ModelError
    program = Program(["N", 3])
    error = wrong(path, "Add", program, "x", program.const(np.ones((7, 3)), np.float32))
    assert type(error) is UnsupportedError
    assert error.fix == "give --dim N=1"
