"""Groups of layers, computed band by band and kept local: whatever plan is chosen, the bytes are the interpreter's."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planish.backends.npu import fusion, mapper
from planish.backends.npu.bands import Group
from planish.backends.npu.compiler import Compiled, compile_graph
from planish.backends.npu.floors import floor
from planish.backends.npu.isa import Move
from planish.backends.npu.jobs import placed
from planish.backends.npu.layout import arrange
from planish.backends.npu.lowering import Tiling, count_tiles, lower
from planish.backends.npu.machine import Machine, load_machine
from planish.backends.npu.mapper import Mapped, Mapper, alone, signature, stages
from planish.backends.npu.memory import Constants, NoRoomError
from planish.backends.npu.places import Place
from planish.backends.npu.runs import root
from planish.backends.npu.timeline import estimate
from planish.ir.errors import DoesNotFitError
from planish.ir.graph import Graph, Value, graph_input
from planish.ir.ops.conv import conv2d
from planish.ir.ops.dense import dense
from planish.ir.ops.pool import max_pool2d
from planish.ir.ops.quant import rescale, rescale_add, sum_factors
from planish.ir.ops.softmax import exp_table, integer_softmax
from planish.ir.types import NHWC
from tests.backends.npu.test_compiler import CASES, TIGHT, grouped, image, machines, require_exact
from tests.support.quantized_layers import convolutions, denses, networks

MULTIPLIER, SHIFT = np.array([1 << 22], np.int32), np.array([0], np.int8)


class AnyMapper(Mapper):
    """Takes any tiling that fits, and says that it costs anything, so that plans are drawn instead of searched."""

    seed = 0
    only: Callable[[Tiling], bool] = staticmethod(lambda tiling: True)

    def best(self, group: Group, place: Place, limit: int | None = None) -> Mapped | None:
        random = np.random.default_rng(zlib.crc32(repr((self.seed, *map(str, signature(group, place)))).encode()))
        for candidates in stages(group, place):
            tilings = [t for t in candidates if self.only(t)]
            for i in random.permutation(len(tilings))[:40]:
                try:
                    lower(group, tilings[i], alone(place))
                except NoRoomError:
                    continue
                return Mapped(group, tilings[i], int(random.integers(1, 100)))
        return super().best(group, place)


def drawn(seed: int, only: Callable[[Tiling], bool] = lambda tiling: True) -> Any:
    """Patches with which a seed chooses the plan, of some tilings only; nothing is asked about time."""
    always = fusion.plan
    seeded = type("Seeded", (AnyMapper,), {"seed": seed, "only": staticmethod(only)})
    return (
        patch("planish.backends.npu.compiler.Mapper", seeded),
        patch.object(fusion, "plan", lambda segment, m, addresses, local: always(segment, m, addresses, True)),
    )


def kinds_of_plans(compiled: Compiled) -> Counter[str]:
    """What the plan of a program has in it."""
    found: Counter[str] = Counter()
    for planned in compiled.plans:
        group, tiling = planned.mapped.group, planned.mapped.tiling
        bands = -(-group.jobs[-1].y.height // tiling.rows)
        found["kept"] += bool(planned.keeps)
        found["fused"] += len(group.jobs) > 1
        found["fused in bands"] += len(group.jobs) > 1 and bands > 1
        found["recomputed"] += len(group.jobs) > 1 and bands > 1 and not tiling.carried[0]
        found["pinned"] += tiling.pinned
        found["stored from inside"] += any(group.stored[:-1])
    moves = [i for p in compiled.programs if p is not None for i in p.instructions if isinstance(i, Move)]
    found["carried"] += bool(moves)
    return found


def test_any_plan_is_exact() -> None:
    seen: Counter[str] = Counter()

    @hypothesis.settings(CASES, max_examples=CASES.max_examples)
    @given(networks(12, outputs=2), machines, st.integers(0, 1 << 30))
    def check(graph: Graph, machine: Machine, seed: int) -> None:
        first, second = drawn(seed)
        with first, second:
            seen.update(kinds_of_plans(require_exact(graph, machine, seed)))

    check()
    wanted = ("kept", "fused", "fused in bands", "recomputed", "carried", "stored from inside")
    assert all(seen[kind] for kind in wanted), seen


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("machine", [load_machine("64"), load_machine("256")], ids=lambda m: m.name)
def test_an_image_that_is_pinned(machine: Machine, depthwise: bool) -> None:
    first, second = drawn(0, lambda tiling: tiling.pinned)
    with first, second:
        compiled = require_exact(layer(40, 40, (3, 2), (9, 7), depthwise), machine)
    assert kinds_of_plans(compiled)["pinned"]


@pytest.mark.parametrize("seed", range(6))
def test_what_is_loaded_spares_rows_that_are_still_to_be_moved(seed: int) -> None:
    """Rows that bands share, and another operand, where memory is so tight that the one comes where the others were."""
    random = np.random.default_rng(0)
    x, other = graph_input("x", image(1, 4, 8, 6)), graph_input("other", image(1, 4, 8, 8))
    w, bias = random.integers(-127, 128, (8, 3, 3, 6)).astype(np.int8), np.zeros(8, np.int32)
    y = conv2d(x, w, bias, pads=(1, 1, 1, 1), input_zero=3, layout=NHWC)
    factors = sum_factors([0.5, 0.75], (-1, 3), 0)
    assert factors is not None
    total = rescale_add(rescale(y, MULTIPLIER, SHIFT, zero=-1), other, **factors)
    first, second = drawn(seed, lambda tiling: tiling.rows == 1 and tiling.carried == (True, True))
    with first, second:
        compiled = require_exact(grouped(Graph([x, other], [total], ["y"])), TIGHT)
    assert kinds_of_plans(compiled)["carried"]


@CASES
@given(st.one_of(convolutions(), convolutions(depthwise=True), denses()), machines, st.data())
def test_floors_hold_and_tiles_are_counted(graph: Graph, machine: Machine, data: st.DataObject) -> None:
    layout = arrange(graph)
    jobs = [placed(job, 1, root) for run in layout.runs for p in run for job in p.jobs]
    if not jobs:
        return
    place = Place(machine, layout.addresses, Constants(keep=False))
    group = Group((jobs[0],), (True,))
    tilings: list[Tiling] = [t for stage in stages(group, place) for t in stage]
    for tiling in data.draw(st.lists(st.sampled_from(tilings), min_size=1, max_size=8)):
        try:
            tiles = lower(group, tiling, alone(place))
        except NoRoomError:
            continue
        assert len(tiles) == count_tiles(group, tiling)
        assert floor(group, tiling, place) <= estimate(tiles, machine, len(tiles))


def layer(depth: int, outputs: int, window: tuple[int, int], size: tuple[int, int], depthwise: bool = False) -> Graph:
    """A graph of one convolution with random weights."""
    random = np.random.default_rng(depth)
    x = graph_input("x", image(1, *size, depth))
    w = random.integers(-127, 128, (outputs, *window, 1 if depthwise else depth)).astype(np.int8)
    bias = random.integers(-999, 999, outputs).astype(np.int32)
    y = conv2d(x, w, bias, groups=depth if depthwise else 1, input_zero=3, pads=(0, 1, 1, 0), layout=NHWC)
    return grouped(Graph([x], [rescale(y, MULTIPLIER, SHIFT, zero=-1)], ["y"]))


@pytest.mark.parametrize(
    ("depth", "outputs", "window", "size", "depthwise"),
    [
        (7000, 5, (1, 1), (1, 2), False),
        (600, 20, (3, 3), (4, 3), False),
        (3, 4, (40, 50), (42, 53), False),
        (16, 16, (50, 40), (51, 41), True),
    ],
)
def test_sums_that_no_memory_holds_are_split(
    depth: int, outputs: int, window: tuple[int, int], size: tuple[int, int], depthwise: bool
) -> None:
    """Deep inputs and wide windows, on the smallest machine: in pieces, and near to what nothing can beat."""
    compiled = require_exact(layer(depth, outputs, window, size, depthwise), load_machine("32"))
    (planned,), (found,) = compiled.plans, compiled.layers
    assert planned.mapped.tiling.cuts[0].split
    assert found.analytic < 2.2 * found.bound.cycles


@hypothesis.settings(CASES, max_examples=max(3, CASES.max_examples // 4))
@given(
    st.sampled_from([1, 2, 7, 64, 300, 1500]), st.integers(1, 40), st.tuples(st.integers(1, 8), st.integers(1, 8)),
    st.tuples(st.integers(8, 10), st.integers(8, 10)), st.booleans(),
)  # fmt: skip
@hypothesis.example(600, 1, (1, 1), (8, 8), True)  # into very many tiles
def test_whatever_is_large_has_a_tiling(
    depth: int, outputs: int, window: tuple[int, int], size: tuple[int, int], depthwise: bool
) -> None:
    """On a machine whose memories hold next to nothing: exact, or it does not fit outside."""
    hypothesis.assume(depth <= 600 if depthwise else depth * outputs * window[0] * window[1] < 1 << 17)
    graph = layer(depth, depth if depthwise else outputs, window, size, depthwise)
    with patch.object(mapper, "PATIENCE", 1):
        compiled = require_exact(graph, TIGHT)
    assert compiled.plans


def test_a_dense_layer_of_200000_inputs() -> None:
    x = graph_input("x", image(1, 200_000))
    w = np.random.default_rng(0).integers(-127, 128, (2, 200_000)).astype(np.int8)
    y = rescale(dense(x, w, np.zeros(2, np.int32)), MULTIPLIER, SHIFT)
    (found,) = require_exact(grouped(Graph([x], [y], ["y"])), load_machine("32")).layers
    assert found.analytic < 2.2 * found.bound.cycles, (found.analytic, found.bound)


@pytest.mark.parametrize(
    ("size", "value", "said"),
    [
        ((250, 250, 6), lambda x: max_pool2d(x, window=(250, 250), layout=NHWC), r"62512 bytes in act, which has 5120"),
        ((1, 1, 6000), lambda x: integer_softmax(x, exp_table(0.1)), r"6000 bytes in act, which has 5120"),
    ],
)
def test_what_cannot_be_tiled_says_which_memory_is_too_small(
    size: tuple[int, int, int], value: Callable[[Value], Value], said: str
) -> None:
    x = graph_input("x", image(1, *size))
    with pytest.raises(DoesNotFitError) as caught:
        compile_graph(Graph([x], [value(x)], ["y"]), load_machine("32"))
    assert said in caught.value.details[0]
