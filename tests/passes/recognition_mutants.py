"""Deliberately wrong variants of recognition, of what is done to layers side by side, and of decomposition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar
from unittest.mock import patch

from planish.ir.builder import const_value
from planish.ir.graph import apply, graph_input
from planish.ir.literals import SQRT_HALF
from planish.ir.ops.attention import attention
from planish.ir.ops.dense import dense, matmul
from planish.ir.ops.elementwise import add, clip, mul, relu
from planish.ir.ops.shape import Concat, concat, reshape, transpose
from planish.ir.ops.softmax import softmax
from planish.ir.ops.unary import erf, gelu, hard_swish, sigmoid
from planish.ir.rewrite import NodeRule, NoMatch, Rule, no_match, replace_value
from planish.ir.types import F32, TensorType
from planish.passes import parallel
from planish.passes.base import Changes, Pass
from planish.passes.decompose import Decompose
from planish.passes.recognition import activations, normalizations
from planish.passes.recognition import attention as attentions
from planish.runtime.contracts import REASSOCIATING, Contract


class LayerNormWithoutEpsilon(normalizations.LayerNorm):
    """Forgets epsilon."""

    def rewrite(self, m, x, axes, epsilon):
        return super().rewrite(m, x, axes, epsilon * 0)


class LayerNormFirstAxes(normalizations.LayerNorm):
    """Normalizes the last axis, whichever was."""

    def rewrite(self, m, x, axes, epsilon):
        last = (x.type.rank - 1,)
        return super().rewrite(m, x, last, epsilon) if len(axes) == 1 else no_match("not one axis")


class MomentsWithoutFactor(normalizations.LayerNormByMoments):
    """Forgets the factor at the inverse of the deviation."""

    def rewrite(self, m, x, axes, keepdims, size, epsilon, scale):
        return super().rewrite(m, x, axes, keepdims, size, epsilon, None)


class ScalesOnly(normalizations.LayerNormAffine):
    """Scales the columns and forgets their shift."""

    def rewrite(self, m, x, scale, shift, c):
        y = super().rewrite(m, x, scale, shift, c)
        if isinstance(y, NoMatch) or y.producer.op.name != "layer_norm":
            return no_match("not alone")
        return apply(y.producer.op, *y.producer.operands[:2], const_value(shift)).result


class RoughGelu(Rule):
    """Takes 0.7 for the root of one half."""

    whole = True

    def pattern(self, x):
        return activations.gated(x, erf(mul(x, 0.7)))

    def rewrite(self, m, x):
        return gelu(x)


class GeluOfAnything(Rule):
    """Does not ask whether the factor outside is what the error function is of."""

    def pattern(self, x, y):
        return mul(mul(x, 0.5), add(erf(mul(y, SQRT_HALF)), 1.0))

    def rewrite(self, m, x, y):
        return gelu(y) if x.type == y.type == m.mul.value.type else no_match("other shapes")


class GateOfFour(Rule):
    """Clips at 4 where hard_swish clips at 6."""

    def pattern(self, x):
        return activations.sixth(mul(x, clip(add(x, 3.0), lo=0.0, hi=4.0)))

    def rewrite(self, m, x):
        return hard_swish(x)


class SoftmaxOfAnyAxis(normalizations.Softmax):
    """Takes the last axis, whichever was."""

    def rewrite(self, m, x, axes):
        return softmax(x) if len(axes) == 1 else no_match("not one axis")


class AttentionOfRows(attentions.Attention):
    """Takes a softmax over queries for one over keys."""

    examples = Rule.examples

    def pattern(self, q, kt, v):
        turned = softmax(transpose(matmul(q, kt), as_="before"))
        return matmul(transpose(turned, as_="after"), v)

    def rewrite(self, m, q, kt, v):
        if m.before.perm != m.after.perm or m.before.perm[-1] != len(m.before.perm) - 2:
            return no_match("not the last two axes")
        alike = q.type.rank == kt.type.rank == v.type.rank
        return attention(q, attentions.swapped(kt), v) if alike else no_match("other ranks")


class AttentionScaledOnce(attentions.Attention):
    """Takes the scale of the queries alone where there is one of the keys as well."""

    def rewrite(self, m, q, kt, v, **others):
        return super().rewrite(m, q, kt, v, **{**others, "k_factor": None, "k_divisor": None})


class Heads(NodeRule):
    """Draws layers of one value whose columns are split into heads."""

    root = Concat

    def examples(self, draw):
        x, size = graph_input("x", TensorType(draw.size2(1, 3), F32)), draw.integer(1, 2)
        parts = []
        for count in [draw.integer(1, 3) for _ in range(draw.integer(2, 3))]:
            w, b = (draw.array(shape, F32, -4, 4) for shape in ((count * size, x.type.shape[1]), (count * size,)))
            heads = transpose(reshape(dense(x, w, b), shape=(x.type.shape[0], count, size)), perm=(1, 0, 2))
            parts.append(draw.choice([heads, relu(heads)]))
        return concat(*parts, axis=0)


@dataclass(frozen=True)
class SideBySide(Pass, adds=("smallest",)):
    """What `fuse` does to layers and movements side by side, with one of its functions replaced."""

    contract: ClassVar[Contract] = REASSOCIATING
    rules: ClassVar[tuple[Rule, ...]] = (Heads(),)
    #: Nodes of a counterexample: two layers with a reshape and a transpose each, and what puts them together.
    smallest: ClassVar[int] = 7
    function: str = "cut"
    wrong: Callable = parallel.cut

    def run(self, graph, context):
        changes = Changes()
        with patch.object(parallel, self.function, self.wrong):
            changes.count("layers", parallel.merge_layers(graph))
            changes.count("movements", parallel.movements_before_slices(graph))
        return changes


def keys_for_values(whole, axis, sizes, cut=parallel.cut):
    """The last two parts, where they are alike, in the wrong order."""
    *first, k, v = cut(whole, axis, sizes)
    return [*first, v, k] if k.type == v.type else [*first, k, v]


def innermost(node, axis, places=parallel._places):
    """The last axis, where a reshape splits one into several."""
    return places(node, axis) and {node.result.type.rank - 1}


@dataclass(frozen=True)
class HalfOfIt(Decompose):
    """Writes silu without its factor."""

    def run(self, graph, context):
        changes = Changes()
        for node in [n for n in graph.nodes if n.op.name == "silu"]:
            replace_value(graph, node.result, sigmoid(node.operands[0]), "decompose")
            changes.count("silu", 1)
        return changes


WRONG_RULES = (
    LayerNormWithoutEpsilon(), LayerNormFirstAxes(), MomentsWithoutFactor(), ScalesOnly(mul), RoughGelu(),
    GeluOfAnything(), GateOfFour(), SoftmaxOfAnyAxis(), AttentionOfRows(), AttentionScaledOnce(),
)  # fmt: skip
WRONG_PASSES = (SideBySide("cut", keys_for_values), SideBySide("_places", innermost))
