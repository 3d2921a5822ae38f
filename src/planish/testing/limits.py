"""Uses of ops at the limits of types: where compilers warn, constants need headers, and arithmetic wraps or ends."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..ir.constant import Const
from ..ir.errors import PlanishError
from ..ir.graph import Graph, infer
from ..ir.op import Instance, Op
from ..ir.types import BOOL, F32, I8, I16, I32, I64, U8, U16, U32, U64, Array, DType, dtype_of, type_of
from ..ir.verifier import verify
from ..passes.base import Context
from ..passes.pipeline import run_pipeline
from ..runtime.target import Limits, Target
from .counterexample import text
from .draw import HypothesisDraw, SeededDraw
from .kernels import together
from .ops import errors, graph_of, reference

#: What C holds. Few ops take all of them, so that half of the uses keep their own.
TYPES: tuple[DType, ...] = (F32, I8, U8, I16, U16, I32, U32, I64, U64, BOOL)


def limits(dtype: DType, op: Op | None = None, macs: int = 0) -> tuple[Any, ...]:
    """The elements of a dtype that code tends to get wrong: its ends and those beside them, and what is special.

    op, macs: what takes them, and its products. The order of operations decides what overflows, so the largest floats
    are for elementwise ops; and whether a tap in the padding is skipped or multiplied decides whether an infinite
    weight counts, so floats that are not finite are for ops without products.
    """
    if dtype.kind == "bool":
        return False, True
    if dtype.is_float:
        info = np.finfo(dtype.numpy)
        small = -0.0, 0.0, 1.0, -1.0, info.smallest_subnormal, info.tiny
        special = () if macs else (np.inf, -np.inf, np.nan)
        return *small, *special, *((info.max, info.min) if op is None or op.elementwise else ())
    return tuple(dict.fromkeys((dtype.min, dtype.max, dtype.min + 1, dtype.max - 1, 0, 1, -1 if dtype.min else 2)))


def instance_at_limits(d: HypothesisDraw, op: type[Op]) -> Instance:
    """A use of an op from its `examples`, changed as far as it stays valid.

    Operands in another dtype, limits among their elements or all of them one limit, attributes that are limits of the
    operands' dtypes, inputs that become constants (which become literals in generated code).
    """
    instance = op.examples(d)
    for change in (_retyped, _with_attributes, _with_elements):
        for changed in change(d, instance):
            if is_valid(changed):
                instance = changed
    constants = {i for i in range(len(instance.operands)) if d.choice([False, False, True])}
    inputs = [i for i in range(len(instance.operands)) if i not in instance.constants]
    if inputs:  # all constant, there would be nothing left to compute
        constants.discard(d.choice(inputs))
    return replace(instance, constants=instance.constants | constants)


def is_valid(instance: Instance) -> bool:
    """Whether inference, the verifier and the reference take it."""
    try:
        infer(instance.op, [type_of(x) for x in instance.operands])
        verify(graph_of(instance))
        reference(instance.op, instance.operands)
    except (PlanishError, ValueError, TypeError, OverflowError, ZeroDivisionError, IndexError):
        return False
    return True


def _retyped(d: HypothesisDraw, instance: Instance) -> Iterator[Instance]:
    """All operands of one dtype in another; and attributes that are dtypes."""
    attributes = {k: d.choice(TYPES) for k, v in instance.op.attributes().items() if isinstance(v, DType)}
    if attributes:
        yield replace(instance, op=instance.op.like(**attributes))
    old = dtype_of(d.choice(instance.operands))
    new = d.choice(TYPES) if d.boolean() else old
    with np.errstate(all="ignore"):
        operands = [x.astype(new.numpy) if dtype_of(x) == old else x for x in instance.operands]
    yield replace(instance, op=instance.op.like(**attributes), operands=tuple(operands))
    yield replace(instance, operands=tuple(operands))


def _with_attributes(d: HypothesisDraw, instance: Instance) -> Iterator[Instance]:
    """One numeric attribute after the other as a limit of an operand's dtype."""
    op, macs = instance.op, instance.op.cost(*map(type_of, instance.operands)).macs
    for name, value in op.attributes().items():
        if isinstance(value, bool) or not isinstance(value, int | float) or d.boolean():
            continue
        limit = d.choice(limits(d.choice([dtype_of(x) for x in instance.operands]), op, macs))
        changed = op.like(**{name: float(limit) if isinstance(value, float) else limit})
        if isinstance(value, int) and not isinstance(limit, int):
            continue
        if is_valid(replace(instance, op=changed)):
            op = changed
    yield replace(instance, op=op)


def _with_elements(d: HypothesisDraw, instance: Instance) -> Iterator[Instance]:
    """One operand after the other with limits among its elements."""
    operands = list(instance.operands)
    macs = instance.op.cost(*map(type_of, operands)).macs
    for i, x in enumerate(operands):
        before, operands[i] = x, _planted(d, x, limits(dtype_of(x), instance.op, macs))
        if not is_valid(replace(instance, operands=tuple(operands))):
            operands[i] = before
    yield replace(instance, operands=tuple(operands))


def _planted(d: HypothesisDraw, x: Array, values: Sequence[Any]) -> Array:
    if not x.size or not d.choice([True, True, False]):
        return x
    if d.boolean():
        return np.full_like(x, d.choice(values))
    planted = x.copy()
    places = np.random.Generator(np.random.PCG64(d.integer(0, 2**16)))
    for value in d.choice([values, values[:2]]):
        planted.flat[int(places.integers(x.size))] = value
    return planted


def explained(error: Array, wanted: Array, got: Array) -> Array:
    """Where a result is what the op means: integers are equal, floats within twice the op's own error or alike."""
    if not dtype_of(wanted).is_float:
        return np.asarray(wanted == got)
    with np.errstate(all="ignore"):
        gap = np.abs(got.astype(np.float64) - wanted.astype(np.float64))
        return (gap <= 2 * np.asarray(error)) | (wanted == got) | (np.isnan(wanted) & np.isnan(got))


#: Compiling takes long: so many uses of each op share a program.
IN_ONE_PROGRAM = 6
#: Channels last, as kernels want images; no simplification, which would fold what is tested.
LOWERED = "decompose,layout{to=nhwc}"
Look = Callable[[Path, str], None]


def check_at_limits(target: Target, ops: Sequence[type[Op]], programs: int = 3, look: Look | None = None) -> int:
    """Compile ops at their limits for a target, execute them, and compare with what the ops mean.

    look: is given the folder and the C name of each artifact before it is executed. Returns how many uses were
    executed; those that the target does not take are left out. Raises AssertionError with the first that is wrong.
    """
    executed = 0
    for seed in range(programs):
        d = SeededDraw(seed)
        drawn = [[instance_at_limits(d, op) for _ in range(IN_ONE_PROGRAM)] for op in ops]
        taken = [instance for uses in drawn for instance in uses if _takes(target, instance)]
        for instance, outputs in zip(taken, _executed(target, taken, look), strict=True):
            wanted, rooms = (about(instance.op, instance.operands) for about in (reference, errors))
            for want, room, got in zip(wanted, rooms, outputs, strict=True):
                with np.errstate(all="ignore"):
                    want = np.asarray(want, got.dtype)
                right = explained(room, want, got)
                wrong = f"{got[~right][:4]} for {want[~right][:4]}"
                assert right.all(), f"{target.name}: {wrong}\n{text(graph_of(instance))}"
        executed += len(taken)
    return executed


def _takes(target: Target, instance: Instance) -> bool:
    graph = _lowered(target, graph_of(instance))
    return all(isinstance(n.op, Const) or target.supports(n) is None for n in graph.nodes)


def _lowered(target: Target, graph: Graph) -> Graph:
    return run_pipeline(graph, LOWERED, Context(target=target)).graph


def _executed(target: Target, taken: Sequence[Instance], look: Look | None) -> list[list[Array]]:
    """Results of each, from one program."""
    graph, arrays = together(taken)
    with tempfile.TemporaryDirectory() as folder:
        artifact = target.emit(_lowered(target, graph), Path(folder), "limits", Limits())
        if look is not None:
            look(Path(folder), artifact.facts["name"])
        outputs = target.run(artifact, {name: array[None] for name, array in arrays.items()}).outputs
    rows = iter(y[0] for y in outputs.values())
    return [[next(rows) for _ in infer(i.op, [type_of(x) for x in i.operands])] for i in taken]
