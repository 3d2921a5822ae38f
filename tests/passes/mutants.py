"""Deliberately wrong variants of our passes, one idea each: what `check_pass` must catch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar
from unittest.mock import patch

import numpy as np

from planish.ir.builder import const_value
from planish.ir.graph import apply, graph_input
from planish.ir.literals import SQRT_HALF
from planish.ir.ops.attention import attention
from planish.ir.ops.conv import conv2d
from planish.ir.ops.dense import dense, matmul
from planish.ir.ops.elementwise import add, clip, mul, relu, sub
from planish.ir.ops.quant import Rescale
from planish.ir.ops.shape import Concat, concat, pad, reshape, slice_, transpose
from planish.ir.ops.softmax import softmax
from planish.ir.ops.unary import erf, gelu, hard_swish, sigmoid
from planish.ir.pattern import const, only_use
from planish.ir.rewrite import NodeRule, NoMatch, Rule, no_match, replace_value
from planish.ir.types import F32, NHWC, TensorType
from planish.passes import fuse, layout, parallel
from planish.passes.base import Changes, Pass, RulePass
from planish.passes.decompose import Decompose
from planish.passes.fold_quantization import FoldQuantization
from planish.passes.group import Group
from planish.passes.quantize import Quantize
from planish.passes.recognition import activations, normalizations
from planish.passes.recognition import attention as attentions
from planish.passes.simplify.cse import merge_common
from planish.runtime.contracts import EXACT, REASSOCIATING, Contract


class PlusZeroIsNothing(Rule):
    """Forgets that -0.0 + 0.0 is 0.0."""

    def pattern(self, x, c):
        return add(x, const(c))

    def rewrite(self, m, x, c):
        return x if not np.any(c) and m.add.value.type == x.type else no_match("not zero")


class TimesZeroIsZero(Rule):
    """Forgets infinities, NaN and -0.0."""

    def pattern(self, x, c):
        return mul(x, const(c))

    def rewrite(self, m, x, c):
        return no_match("not zero") if np.any(c) else np.zeros(m.mul.value.type.shape, np.float32)


class MinusItselfIsZero(Rule):
    """Forgets that inf - inf is NaN."""

    def pattern(self, x):
        return sub(x, x)

    def rewrite(self, m, x):
        return np.zeros(x.type.shape, np.float32)


class OuterClipOnly(Rule):
    """Takes the outer bounds alone."""

    def pattern(self, x):
        return clip(clip(x, as_="inner"), as_="outer")

    def rewrite(self, m, x):
        return m.outer.like(x)


class ClipsInTheWrongOrder(Rule):
    """Tightest bounds: wrong where the intervals are disjoint."""

    def pattern(self, x):
        return clip(clip(x, as_="inner"), as_="outer")

    def rewrite(self, m, x):
        return m.outer.like(x, lo=max(m.inner.lo, m.outer.lo), hi=min(m.inner.hi, m.outer.hi))


class TransposesInTheWrongOrder(Rule):
    """Composes permutations the wrong way round."""

    def pattern(self, x):
        return transpose(transpose(x, as_="inner"), as_="outer")

    def rewrite(self, m, x):
        perm = tuple(m.outer.perm[i] for i in m.inner.perm)
        return m.outer.like(x, perm=perm)


class TransposeIsReshape(Rule):
    """Looks at the shape, not at the order of the elements."""

    def pattern(self, x):
        return transpose(x)

    def rewrite(self, m, x):
        return reshape(x, shape=m.transpose.value.type.shape)


class SliceForgetsStarts(Rule):
    """Two slices are one, from the outer start."""

    def pattern(self, x):
        return slice_(slice_(x, as_="inner"), as_="outer")

    def rewrite(self, m, x):
        counts = m.outer.value.type.shape
        starts, steps = m.outer.starts, tuple(a * b for a, b in zip(m.inner.steps, m.outer.steps, strict=True))
        stops = tuple(s + (n - 1) * d + 1 for s, n, d in zip(starts, counts, steps, strict=True))
        return m.outer.like(x, starts=starts, stops=stops, steps=steps)


class PadsWithAnotherValue(Rule):
    """Two pads are one, whatever they pad with."""

    def pattern(self, x):
        return pad(pad(x, as_="inner"), as_="outer")

    def rewrite(self, m, x):
        sums = {
            k: tuple(map(sum, zip(getattr(m.inner, k), getattr(m.outer, k), strict=True))) for k in ("before", "after")
        }
        return m.outer.like(x, **sums)


@dataclass(frozen=True)
class CommonWhateverTheOperands(Pass):
    """Merges nodes of the same op, as long as the types agree."""

    contract: ClassVar[Contract] = EXACT

    def run(self, graph, context):
        changes, seen = Changes(), {}
        for node in graph.nodes:
            first = seen.setdefault((node.op, node.results[0].type), node)
            if first is not node:
                graph.replace(node.results[0], first.results[0])
                graph.erase(node)
                changes.count("merged", 1)
        changes.count("merged", merge_common(graph))
        return changes


class WithoutEpsilon(fuse.BatchNormAfterLayer):
    """Forgets epsilon."""

    def rewrite(self, m, x, w, b, scale, shift, mean, var):
        k = scale / np.sqrt(var)
        return fuse.affine_after(m.layer, x, w, b, k, shift - mean * k)


class WithoutMean(fuse.BatchNormAlone):
    """Forgets the mean."""

    def rewrite(self, m, x, **parameters):
        return super().rewrite(m, x, **{**parameters, "mean": parameters["mean"] * 0})


class BiasNotScaled(Rule):
    """Folds a factor into the weights and forgets the bias."""

    def pattern(self, x, w, b, c):
        return mul(only_use(dense(x, const(w), const(b))), const(c))

    def rewrite(self, m, x, w, b, c):
        k = fuse.along(1, c, m.dense.value.type) if m.dense.value.type.rank == 2 else None
        if k is None or m.mul.value.type != m.dense.value.type:
            return no_match("not one number per output")
        return m.dense.like(x, (w * fuse.per_output(k, w)).astype(w.dtype), b)


class ShiftPastPadding(fuse.BatchNormBeforeLayer):
    """Moves a shift past padding."""

    def rewrite(self, m, x, w, b, **parameters):
        if fuse.normalized_axis(m) != fuse.channel_axis(m.layer):
            return no_match("another axis")
        k, t = fuse.scale_and_shift(m, **parameters)
        terms = (w * fuse.per_input(t, w, m.layer)).reshape(w.shape[0], -1)
        return m.layer.like(x, (w * fuse.per_input(k, w, m.layer)).astype(w.dtype), (b + terms.sum(1)).astype(b.dtype))


class AnyPadding(fuse.PadIntoConv):
    """Ignores what the convolution pads with."""

    def rewrite(self, m, x, w, b):
        pads = fuse.spatial_pads(m)
        return no_match("batch or channels") if pads is None else m.window.like(x, w, b, pads=pads)


class CountsOtherPads(fuse.PadIntoPool):
    """Ignores whether the mean counts padding."""

    def padded_alike(self, window, value, x):
        return "" if value == 0 else "not zero", {}


class LayerNormWithoutEpsilon(normalizations.LayerNorm):
    """Forgets epsilon."""

    def rewrite(self, m, x, axes, epsilon):
        return super().rewrite(m, x, axes, epsilon * 0)


class LayerNormFirstAxes(normalizations.LayerNorm):
    """Normalizes the last axis, whichever was."""

    def rewrite(self, m, x, axes, epsilon):
        last = (x.type.rank - 1,)
        return super().rewrite(m, x, last, epsilon) if len(axes) == 1 else no_match("not one axis")


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


class ComputesInFloat(fuse.ConstantsMerge):
    """Casts to floats on its way: not wrong, but not to be proven."""

    def rewrite(self, m, x, a, b):
        return m.outer.like(x, m.outer.op.ref(a.astype(np.float64), b.astype(np.float64)).astype(a.dtype))


class _PixelsUnmoved(layout._Walk):
    def dense(self, node, x):
        pixels = self.reshape(x.value, x.shape, node.loc)
        (result,) = self.insert(apply(node.op, pixels, *map(self.original, node.operands[1:]), name=node.result.name))
        return layout.itself(result)


class _WidthBeforeHeight(layout._Walk):
    def transposed(self, value, perm, loc):
        n, h, w, c = perm if len(perm) == 4 else (0, 0, 0, 0)
        square = value.type.shape[h] == value.type.shape[w] and (n, h, w, c) == (0, 2, 3, 1)
        return super().transposed(value, (n, w, h, c) if square else perm, loc)


@dataclass(frozen=True)
class WrongLayout(layout.Layout):
    """Walks the graph in a wrong way."""

    walk: type = layout._Walk

    def run(self, graph, context):
        changes = self.walk(graph, NHWC).run()
        changes.count("walk", 1)
        return changes


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
class SideBySide(Pass):
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


@dataclass(frozen=True)
class GroupLosesClips(Group):
    """Leaves an activation out of the group."""

    def run(self, graph, context):
        changes = super().run(graph, context)
        for node in graph.nodes:
            for body in node.op.bodies():
                last = body.outputs[0].producer
                if last is not None and last.op.name == "clip" and last.operands[0].type == last.result.type:
                    body.replace(last.result, last.operands[0])
                    body.prune_from([last])
        return changes


@dataclass(frozen=True)
class SilentQuantize(Quantize):
    """Reports nothing."""

    def run(self, graph, context):
        return replace(super().run(graph, context), facts={})


@dataclass(frozen=True)
class ZeroPointOff(FoldQuantization):
    """Rescales to another zero point."""

    def run(self, graph, context):
        changes = super().run(graph, context)
        for node in graph.nodes:
            if isinstance(node.op, Rescale) and node.op.zero < node.op.hi - 3:
                node.op = replace(node.op, zero=node.op.zero + 3)
        return changes


def of_rules(promised, *wrong):
    """A pass of these rules."""

    @dataclass(frozen=True)
    class Mutant(RulePass):
        name: ClassVar[str] = "+".join(rule.title for rule in wrong)
        contract = promised
        rules = wrong

    return Mutant()


MUTANTS = {
    "simplify": [
        *(of_rules(EXACT, rule()) for rule in (
            PlusZeroIsNothing, TimesZeroIsZero, MinusItselfIsZero, OuterClipOnly, ClipsInTheWrongOrder,
            TransposesInTheWrongOrder, TransposeIsReshape, SliceForgetsStarts, PadsWithAnotherValue,
        )),
        CommonWhateverTheOperands(),
    ],
    "fuse": [
        SideBySide("cut", keys_for_values), SideBySide("_places", innermost),
        *(of_rules(REASSOCIATING, rule) for rule in (
            WithoutEpsilon(conv2d), WithoutEpsilon(dense), WithoutMean(), BiasNotScaled(), ShiftPastPadding(conv2d),
            AnyPadding(), CountsOtherPads(fuse.avg_pool2d), ComputesInFloat(add),
            LayerNormWithoutEpsilon(), LayerNormFirstAxes(), ScalesOnly(mul), RoughGelu(), GeluOfAnything(),
            GateOfFour(), SoftmaxOfAnyAxis(), AttentionOfRows(), AttentionScaledOnce(),
        )),
    ],
    "decompose": [HalfOfIt()],
    "layout": [WrongLayout(walk=_PixelsUnmoved), WrongLayout(walk=_WidthBeforeHeight)],
    "group": [GroupLosesClips()],
    "quantize": [SilentQuantize(calibration="minmax")],
    "fold-quantization": [ZeroPointOff()],
}  # fmt: skip
