"""Dead channels go, exactly those, and not a bit of the result changes; so do chosen ones, as if nobody read them."""

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planish import optimize
from planish.driver import read_model
from planish.ir.arithmetic import fixed_point
from planish.ir.builder import const_value
from planish.ir.constant import Const
from planish.ir.equality import difference
from planish.ir.evaluate import evaluate
from planish.ir.ops.conv import conv2d
from planish.ir.ops.dense import dense
from planish.ir.ops.elementwise import clip, relu
from planish.ir.ops.fused import Fused
from planish.ir.ops.pool import max_pool2d
from planish.ir.ops.quant import rescale, rescale_add, sum_factors, table
from planish.ir.ops.shape import reshape, slice_, transpose
from planish.ir.types import I8, Sym
from planish.ir.verifier import verify
from planish.passes.base import Context
from planish.passes.channels import Solver, cut, settled
from planish.passes.group import inline
from planish.passes.pipeline import run_pipeline
from planish.testing import planted_graphs, quantized_graphs
from planish.testing.contracts import samples
from tests.support.passes import graph_of, x_input

LAYOUTS = ["layout{to=nhwc}", "layout{to=nhwc},simplify,group", "group"]


def outputs(graph):
    return [array for s in samples(graph) for array in evaluate(graph, [s[v.name] for v in graph.inputs])]


def same_bits(a, b):
    return all(np.array_equal(x, y) for x, y in zip(outputs(a), outputs(b), strict=True))


def computed(graph):
    return [(n.op.name, [v.type for v in n.results]) for n in graph.nodes if not isinstance(n.op, Const)]


@given(planted_graphs())
def test_exactly_the_planted_channels_go(planted):
    """What is left is the network in which they were planted, weights and biases too; and that has none to lose."""
    assert same_bits(planted.lean, planted.fat)
    thin = run_pipeline(planted.fat, "dead-channels").graph
    assert difference(thin, planted.lean) is None
    assert not run_pipeline(planted.lean, "dead-channels").steps[0].changes


@pytest.mark.parametrize("before", LAYOUTS)
@given(planted=planted_graphs())
def test_in_any_layout_and_in_groups(before, planted):
    fat, lean = (run_pipeline(g, before).graph for g in (planted.fat, planted.lean))
    thin = run_pipeline(fat, "dead-channels").graph
    assert computed(simplified(thin)) == computed(simplified(lean))
    assert same_bits(thin, fat)


def simplified(graph):
    """Without groups, and without what does nothing any more: a gather of the only channel that is left."""
    open_graph = graph.clone()
    for node in [n for n in open_graph.nodes if isinstance(n.op, Fused)]:
        inline(open_graph, node)
    return run_pipeline(open_graph, "simplify").graph


PLANTED_NOW_AND_THEN = {
    "depthwise": lambda p: any(getattr(n.op, "groups", 1) > 1 for n in p.fat.nodes),
    "padding": lambda p: any(n.op.name == "conv2d" and any(n.op.pads) for n in p.fat.nodes),
    "dead channels": lambda p: difference(p.fat, p.lean),
    **{name: lambda p, name=name: name in {n.op.name for n in p.fat.nodes}
       for name in ("conv2d", "rescale_add", "concat", "max_pool2d", "sum_pool2d", "table", "gather", "slice",
                    "dense", "reshape")},
}  # fmt: skip


@pytest.mark.parametrize("what", PLANTED_NOW_AND_THEN)
def test_planted_graphs_have_everything(what):
    """What is planted now and then is found long before so many examples."""
    settings = hypothesis.settings(max_examples=2000, derandomize=True, phases=(hypothesis.Phase.generate,))
    hypothesis.find(planted_graphs(), PLANTED_NOW_AND_THEN[what], settings=settings)


NETWORKS = st.one_of(quantized_graphs(), planted_graphs().map(lambda p: p.fat))


@given(NETWORKS, st.integers(0, 2**16))
def test_cutting_is_not_reading(graph, seed):
    """Chosen channels, cut out, leave what is computed when the weights that read them are zero."""
    cut_at_random(graph, np.random.Generator(np.random.PCG64(seed)))


def test_much_is_cut():
    """What the test above says is about something: channels go in about half of all networks."""
    gone = []

    examples = max(60, hypothesis.settings().max_examples)

    @hypothesis.settings(max_examples=examples, derandomize=True, phases=(hypothesis.Phase.generate,))
    @given(NETWORKS)
    def draw(graph):
        gone.append(cut_at_random(graph, np.random.default_rng(0)))

    draw()
    assert np.mean(np.array(gone) > 0) > 0.25


def cut_at_random(graph, random):
    """Cut about half of all channels, bundle by bundle, each time against the twin; returns how many went."""
    gone = 0
    origins = list(Solver(graph).origins())
    for i in random.permutation(len(origins)):
        bundle = Solver(graph).bundle(*origins[i])
        sums = [(n, t) for n, ties in bundle.ties.items() for t in ties if t.channels.is_sum]
        wanted = random.integers(0, 2, bundle.count) > 0
        for node, tie in sums:
            wanted[tie.classes] |= node.op.name not in ("conv2d", "dense")
        keep, _ = settled(bundle, wanted)
        twin = graph.clone()
        nodes = dict(zip(graph.nodes, twin.nodes, strict=True))
        for node, tie in sums:
            silence(twin, nodes[node], tie, keep)
        cut(graph, bundle, keep)
        verify(graph)
        assert same_bits(graph, twin)
        gone += int(np.count_nonzero(~keep))
    return gone


def silence(graph, node, tie, keep):
    """Zero the weights of channels that are not kept."""
    if node.op.name in ("conv2d", "dense"):
        ((axis, of),) = [(axis, of) for (i, axis), of in tie.channels.operands.items() if i == 1]
        weights = np.moveaxis(node.operands[1].const.copy(), axis, 0)
        weights[~keep[tie.classes[of]]] = 0
        silent = const_value(np.moveaxis(weights, 0, axis))
        graph.adopt(silent, before=node)
        graph.set_operand(node, 1, silent)


# ---- examples: what goes, what stays, and why

X = (1, 1, 3, 3)


def layer(x, w, b, zero=-128, to=-128, **options):
    """A convolution of one pixel, or depthwise of any window, and its result in 8 bits at half the scale."""
    w = np.array(w, np.int8)
    w = w.reshape(*w.shape, *(1,) * (4 - w.ndim))
    groups = 1 if w.shape[1] == x.type.shape[1] else x.type.shape[1]
    acc = conv2d(x, w, np.array(b, np.int32), input_zero=zero, groups=groups, **options)
    return rescale(acc, *fixed_point(0.5), zero=to)


def sums(x, *w, zero=-128, window=(1, 1), pads=0, **options):
    """One sum over all channels, in which channel i has weight w[i]."""
    weights = np.broadcast_to(np.array(w, np.int8).reshape(1, -1, 1, 1), (1, len(w), *window))
    return conv2d(x, weights, np.array([7], np.int32), input_zero=zero, pads=(pads,) * 4, **options)


def thinned(*outputs):
    """The graph without its dead channels, checked, and what was said about those that stay."""
    graph = graph_of(*outputs)
    result = run_pipeline(graph, "dead-channels")
    assert same_bits(graph, result.graph)
    return result.graph, list(result.steps[0].changes.refused.values())


def channels(graph, op="rescale"):
    return [n.result.type.shape[1] for n in graph.nodes if n.op.name == op]


def two(constant=40):
    """Two channels, the second of which is constant: -128 + constant / 2."""
    return layer(x_input(*X, dtype=I8), [[2], [0]], [0, constant])


def test_a_constant_goes_into_the_bias():
    graph, _ = thinned(sums(two(), 1, 3))
    assert channels(graph) == [1]
    (w, b) = (list(graph.nodes)[-1].operands[i].const for i in (1, 2))
    assert (w.tolist(), b.tolist()) == ([[[[1]]]], [7 + 3 * 20])


def test_any_batch():
    x = layer(x_input(Sym("N"), 1, 3, 3, dtype=I8), [[2], [0], [3]], [0, 40, 0])
    turned = transpose(transpose(max_pool2d(x, window=(2, 2)), perm=(0, 2, 3, 1)), perm=(0, 3, 1, 2))
    flat = reshape(turned, shape=(Sym("N"), 12))
    y = dense(flat, np.ones((2, 12), np.int8), np.zeros(2, np.int32), input_zero=-128)
    assert channels(thinned(y)[0]) == [2]


def test_at_the_border_a_constant_is_not_padding():
    graph, refused = thinned(sums(two(), 1, 3, pads=1))
    assert channels(graph) == [2]
    assert refused == ["1: padding lies between: the sum gets something else at the border"]


def test_padding_is_a_constant_that_is_the_zero_point():
    assert channels(thinned(sums(two(0), 1, 3, pads=1))[0]) == [1]


@pytest.mark.parametrize(("weight", "left"), [(0, [1]), (1, [2])])
def test_a_channel_of_two_values_stays(weight, left):
    """The narrowest range that is no constant: 0 or 1 steps of the sum, of which the clamp leaves all."""
    x = clip(x_input(*X, dtype=I8), lo=0.0, hi=1.0)
    y = rescale(
        conv2d(x, np.array([[2], [weight]], np.int8).reshape(2, 1, 1, 1), np.array([0, 5], np.int32)), *fixed_point(1.0)
    )
    assert channels(thinned(sums(y, 1, 3, zero=0))[0]) == left


def test_saturated_channels_are_constant():
    saturated = layer(x_input(*X, dtype=I8), [[2], [100]], [0, -30000])
    assert channels(thinned(sums(saturated, 1, 3))[0]) == [1]


@pytest.mark.parametrize(("weight", "left"), [(0, [1, 1]), (3, [2, 2])])
def test_a_residual_sum_needs_both(weight, left):
    x = x_input(*X, dtype=I8)
    a, b = (layer(x, [[2], [w]], [0, 40]) for w in (0, weight))
    graph, _ = thinned(sums(rescale_add(a, b, **sum_factors([0.5, 0.5], (-128, -128), -128)), 1, 3))
    assert channels(graph) == left


def test_a_branch_that_reads_elsewhere_needs_it():
    x = layer(x_input(*X, dtype=I8), [[2], [3]], [0, 40])
    flat = table(x, np.zeros(256, np.int8))
    graph, refused = thinned(sums(flat, 1, 3), sums(x, 1, 3))
    assert channels(graph) == [2]
    assert refused == ["0, 1: conv2d from (no source) needs what it is tied to"]


def test_outputs_keep_their_channels():
    x = two()
    graph, refused = thinned(sums(x, 1, 3), x)
    assert channels(graph) == [2]
    assert refused[0].endswith("is an output of the graph")


def test_channels_that_nobody_reads_go():
    live = layer(x_input(*X, dtype=I8), [[2], [3]], [0, 0])
    assert channels(thinned(sums(live, 1, 0, pads=1))[0]) == [1]


def test_what_is_not_read_behind_is_not_read_before():
    first = layer(x_input(*X, dtype=I8), [[2], [3]], [0, 0])
    second = layer(first, np.full((2, 1, 2, 2), 3), [0, 0], pads=(1, 1, 0, 0))
    assert channels(thinned(sums(second, 0, 1))[0]) == [1, 1]


def test_what_is_cut_off_goes():
    live = layer(x_input(*X, dtype=I8), [[2], [3], [4]], [0, 0, 0])
    part = slice_(live, starts=(0, 1, 0, 0), stops=(1, 2, 3, 3), steps=(1,) * 4)
    assert channels(thinned(sums(part, 1))[0]) == [1]


def test_the_last_channel_stays():
    graph, refused = thinned(sums(layer(x_input(*X, dtype=I8), [[0], [0]], [40, 60]), 1, 3))
    assert channels(graph) == [1]
    assert refused[0].endswith("would have no channel left")


def test_a_shuffle_by_hand_moves_whole_groups():
    """Reshape, transpose, reshape: channels 0, 2 and 1, 3 cannot be told apart halfway."""
    x = x_input(*X, dtype=I8)
    for weights, left in (([2, 3, 0, 0], [2]), ([2, 0, 3, 0], [4])):
        y = layer(x, np.array(weights)[:, None], [0, 40, 60, 80])
        halves = transpose(reshape(y, shape=(1, 2, 2, 3, 3)), perm=(0, 2, 1, 3, 4))
        shuffled = reshape(halves, shape=(1, 4, 3, 3))
        assert channels(thinned(sums(shuffled, 1, 2, 3, 4))[0]) == left


def test_a_step_through_channels_stays_a_slice_or_nothing_goes():
    x = layer(x_input(*X, dtype=I8), [[2], [0], [3], [0], [4]], [0, 40, 0, 60, 0])
    every_other = slice_(x, starts=(0,) * 4, stops=(1, 5, 3, 3), steps=(1, 2, 1, 1))
    assert channels(thinned(sums(every_other, 1, 2, 3))[0]) == [3]


def test_what_a_channel_adds_may_not_fit_the_bias():
    x = layer(x_input(*X, dtype=I8), [[2], [0]], [0, 2000], to=127)
    top = np.array([2**31 - 1 - 100], np.int32)
    w = np.array([-1, 1], np.int8).reshape(1, 2, 1, 1)
    graph = graph_of(conv2d(x, w, top, input_zero=126))
    assert channels(run_pipeline(graph, "dead-channels").graph) == [1]


def test_float_sums_stay():
    x = x_input(*X)
    y = relu(conv2d(x, np.array([[1.0], [0.0]], np.float32).reshape(2, 1, 1, 1), np.array([0, -1], np.float32)))
    graph = graph_of(conv2d(y, np.ones((1, 2, 1, 1), np.float32), np.zeros(1, np.float32)))
    assert not run_pipeline(graph, "dead-channels").steps[0].changes


def test_the_text_of_a_group_keeps_its_nodes():
    graph = run_pipeline(graph_of(sums(two(), 1, 3)), "group,dead-channels").graph
    (group,) = (n for n in graph.nodes if n.op.name == "fused")
    assert [n.op.name for n in group.op.body.nodes] == ["conv2d", "rescale"]
    assert group.result.type.shape == (1, 1, 3, 3)


# ---- trained models

#: Filters that are planted, a quarter of each layer that a relu follows; how many classes go, and what becomes of the
#: multiply-accumulates. Four filters of ic_resnet8 are tied to live ones by a residual sum.
MODELS = {"kws_dscnn": (80, 80, 2656768, 1608576), "ic_resnet8": (32, 28, 12501632, 9552512)}


@pytest.mark.parametrize("name", MODELS)
def test_planted_filters_of_trained_models_go(name, models):
    """Zero filters, and biases that a relu cuts off, in floats; int8 has none of them, and not a bit changes."""
    planted, gone, whole, thin = MODELS[name]
    graph = optimize(read_model(models / name / "model.onnx", {}, {}, static_batch=True).graph, "simplify,fuse")
    assert sum(plant(graph, node) for node in list(graph.nodes)) == planted
    context = Context(lambda: samples(graph))
    integers = run_pipeline(graph, "quantize{calibration=minmax},fold-quantization,simplify", context).graph
    for lowering in ("", "layout{to=nhwc},simplify,group"):
        before = run_pipeline(integers, lowering).graph
        result = run_pipeline(before, "dead-channels")
        assert result.steps[0].changes.applied["channel removed"] == gone
        after = result.graph
        assert (macs(before), macs(after)) == (whole, thin)
        assert same_bits(before, after)


def plant(graph, node):
    """Empty a quarter of the filters, from the first on, where a relu alone follows; returns how many."""
    follower = graph.only_user(node.results[0])
    if node.op.name != "conv2d" or node.op.groups > 1 or follower is None or follower.op.name != "clip":
        return 0
    w, b = (node.operands[i].const.copy() for i in (1, 2))
    count = len(b) // 4
    w[:count], b[:count] = 0, -5
    for i, array in ((1, w), (2, b)):
        value = const_value(array)
        graph.adopt(value, before=node)
        graph.set_operand(node, i, value)
    return count


def macs(graph):
    return sum(n.op.cost(*(v.type for v in n.operands)).macs for n in graph.nodes)
