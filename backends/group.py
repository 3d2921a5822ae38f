"""A node of the lowered graph as kernels see it: an anchor op, and elementwise ops on its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..ir.constant import Const
from ..ir.graph import Node, Value
from ..ir.ops.fused import Fused
from ..ir.types import Array, static
from ..runtime.target import Unsupported


@dataclass(frozen=True, eq=False)
class Group:
    """One top-level node: a single op, or the body of a `fused`.

    nodes: what it computes, in order, without constants. anchor: the node that is not elementwise; where all are, the
    first. epilogue: the others; they work on the anchor's first result. outer: the top-level value behind a value of
    the body.
    """

    node: Node
    nodes: tuple[Node, ...]
    outer: Mapping[Value, Value]

    @staticmethod
    def of(node: Node) -> Group:
        if not isinstance(node.op, Fused):
            return Group(node, (node,), {})
        body = node.op.body
        inner = tuple(n for n in body.nodes if not isinstance(n.op, Const))
        return Group(node, inner, dict(zip(body.inputs, node.operands, strict=True)))

    @cached_property
    def anchor(self) -> Node:
        return next((n for n in self.nodes if not n.op.elementwise), self.nodes[0])

    @property
    def op(self) -> Any:
        """The anchor's op."""
        return self.anchor.op

    @cached_property
    def epilogue(self) -> tuple[Node, ...]:
        return tuple(n for n in self.nodes if n is not self.anchor)

    @property
    def is_elementwise(self) -> bool:
        return self.anchor.op.elementwise

    @cached_property
    def result(self) -> Value:
        """The first result, as the body knows it: of the anchor, or of what follows it."""
        return self._inner[0]

    @cached_property
    def _inner(self) -> tuple[Value, ...]:
        """All results, as the body knows them."""
        return self.node.op.body.outputs if isinstance(self.node.op, Fused) else self.node.results

    @cached_property
    def results(self) -> Mapping[Value, str]:
        """Results that the function writes, as the body knows them, by the names of its parameters.

        One is `y`; several are `y0`, `y1`, ... by their indexes. Those that nothing uses are not written.
        """
        live = set(self.node.live_results)
        written = [(i, v) for i, (v, top) in enumerate(zip(self._inner, self.node.results, strict=True)) if top in live]
        return {v: "y" if len(written) == 1 else f"y{i}" for i, v in written}

    @cached_property
    def parameters(self) -> tuple[Value, ...]:
        """Top-level operands that the function takes as x0, x1, ...: those that are no constants, each once."""
        return tuple(dict.fromkeys(v for v in self.node.operands if v.const is None))

    def top(self, value: Value) -> Value:
        """The top-level value of an operand; a value computed inside is itself."""
        return self.outer.get(value, value)

    def constant(self, value: Value) -> Array | None:
        """The array behind an operand, where it is a constant."""
        return self.top(value).const

    def array(self, value: Value) -> Array:
        """The array behind an operand that is known to be a constant: `accepts` has seen to that."""
        array = self.constant(value)
        if array is None:
            raise ValueError(f"{value} is no constant")
        return array

    @cached_property
    def numbers(self) -> Mapping[Value, int]:
        """The place of each parameter."""
        return {value: i for i, value in enumerate(self.parameters)}

    def parameter(self, value: Value) -> str | None:
        """The C parameter that an operand comes in (`x0`); None for constants and for what is computed inside."""
        number = self.numbers.get(self.top(value))
        return None if number is None else f"x{number}"

    def shape(self, value: Value) -> tuple[int, ...]:
        return static(value.type.shape)

    @cached_property
    def problem(self) -> Unsupported | None:
        """Why no kernel can take the group, whatever its ops."""
        others = [n for n in self.epilogue if not n.op.elementwise]
        if others:
            return Unsupported(f"{self.anchor.op.name} and {others[0].op.name} are in one group; one of them may be")
        if many := [n for n in self.nodes if len(n.results) > 1 and (n.op.elementwise or n is not self.anchor)]:
            return Unsupported(f"{many[0].op.name} is elementwise and has {len(many[0].results)} results, not one")
        later = self.anchor.results[1:]
        if read := [v for n in self.epilogue for v in n.operands if v in later]:
            return Unsupported(
                f"result {read[0].index} of {self.anchor.op.name} is read in its group; only result 0 may be"
            )
        if beside := [i for i, v in enumerate(self._inner[1:], 1) if v not in later]:
            return Unsupported(f"result {beside[0]} of the group is none of {self.anchor.op.name}'s later results")
        if any(self.top(v) is v and v.producer in self.nodes for v in self.anchor.operands):
            return Unsupported(f"ops before {self.anchor.op.name} are in its group; only what follows it may be")
        if self.result.type.shape != self.anchor.results[0].type.shape and not self.is_elementwise:
            return Unsupported(f"what follows {self.anchor.op.name} changes its shape")
        return None

    def describe(self) -> str:
        """For comments: ops and types of the results, no names."""
        return f"{' + '.join(n.op.name for n in self.nodes)} -> {self.shown}"

    @property
    def shown(self) -> str:
        """The types of the results that are written."""
        return ", ".join(str(v.type.bare) for v in self.results)


def uniform(array: Array) -> Any:
    """The one number that all elements are, by bits; None where they differ or there are none."""
    if array.size == 0:
        return None
    flat = np.ascontiguousarray(array).reshape(-1)
    bits = flat.view(f"u{flat.itemsize}")
    return flat[0] if bits[0] == bits[-1] and np.all(bits == bits[0]) else None
