"""Deliberately wrong variants of our passes, one idea each: what `check_pass` must catch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar
from unittest import mock

import numpy as np

from planish.ir.builder import const_value
from planish.ir.graph import Node, apply
from planish.ir.ops.conv import conv2d
from planish.ir.ops.dense import dense
from planish.ir.ops.elementwise import add, clip, mul, sub
from planish.ir.ops.quant import Dequantize, Rescale, RescaleAdd
from planish.ir.ops.shape import Concat, pad, reshape, slice_, transpose
from planish.ir.pattern import const, only_use
from planish.ir.rewrite import Rule, no_match
from planish.ir.types import NHWC
from planish.passes import channels, fuse, layout, padding
from planish.passes import dead_channels as dead
from planish.passes.base import Changes, Pass, RulePass
from planish.passes.dequantize_constants import DequantizeConstants
from planish.passes.fold_quantization import FoldQuantization
from planish.passes.group import Group
from planish.passes.quantize import Quantize
from planish.passes.simplify.cse import merge_common
from planish.passes.widen import Widen
from planish.runtime.contracts import EXACT, REASSOCIATING, Contract
from tests.passes.recognition_mutants import WRONG_PASSES, WRONG_RULES, HalfOfIt


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


class AnyPadding(padding.PadIntoConv):
    """Ignores what the convolution pads with."""

    def rewrite(self, m, x, w, b):
        pads = padding.spatial_pads(m)
        return no_match("batch or channels") if pads is None else m.window.like(x, w, b, pads=pads)


class CountsOtherPads(padding.PadIntoPool):
    """Ignores whether the mean counts padding."""

    def _padded_alike(self, window, value, x):
        return "" if value == 0 else "not zero", {}


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
class SilentWiden(Widen):
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


@dataclass(frozen=True)
class OneScaleForAll(DequantizeConstants):
    """Forgets that channels have scales of their own."""

    def run(self, graph, context):
        for node in list(graph.nodes):
            if isinstance(node.op, Dequantize) and all(v.const is not None for v in node.operands):
                scale = node.operands[1].const
                graph.adopt(same := const_value(np.full_like(scale, scale.flat[0])), before=node)
                graph.set_operand(node, 1, same)
        return super().run(graph, context)


class _IgnoresPadding(dead._Round):
    def share(self, node, ties, which):
        return super().share(_with(node, pads=(0, 0, 0, 0)), ties, which)


class _IgnoresInputZero(dead._Round):
    def share(self, node, ties, which):
        return super().share(_with(node, input_zero=0), ties, which)


class _IntoTheNextBias(dead._Round):
    def share(self, node, ties, which):
        share = super().share(node, ties, which)
        return share if share is None else np.roll(share, 1)


class _OneBranchIsEnough(dead._Round):
    """Takes a sum for constant where its first operand is."""

    def __init__(self, *given):
        right = RescaleAdd.bounds

        def bounds(op, a, b):
            both = right(op, a, b)
            return replace(both, hi=np.where(a.lo == a.hi, both.lo, both.hi))

        with mock.patch.object(RescaleAdd, "bounds", bounds):
            super().__init__(*given)


class _ForgetsOffsets(dead._Round):
    """Takes the operands of a concat to stand in the other order, and does not check where labels go."""

    def __init__(self, graph, changes, solver):
        super().__init__(graph, changes, _OtherWayRound(graph))

    def run(self):
        with mock.patch.object(channels, "_moves_alike", return_value=True):
            return super().run()


class _OtherWayRound(channels.Solver):
    def ties(self, node):
        answers = super().ties(node)
        if not isinstance(node.op, Concat):
            return answers
        return tuple(replace(c, results={p: of[::-1] for p, of in c.results.items()}) for c in answers)


def _with(node, **attributes):
    """The node as it would be with other attributes, where it has them."""
    known = {k: v for k, v in attributes.items() if k in node.op.attributes()}
    return Node(node.op.like(**known), node.operands, [v.type for v in node.results], node.loc)


@dataclass(frozen=True)
class WrongChannels(dead.DeadChannels):
    """Decides in a wrong way which channels are dead, or what becomes of them."""

    round: type = dead._Round

    def run(self, graph, context):
        changes, solver = Changes(), channels.Solver(graph)
        while removed := self.round(graph, changes, solver).run():
            changes.count("channel removed", removed)
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
        *WRONG_PASSES,
        *(of_rules(REASSOCIATING, rule) for rule in (
            WithoutEpsilon(conv2d), WithoutEpsilon(dense), WithoutMean(), BiasNotScaled(), ShiftPastPadding(conv2d),
            AnyPadding(), CountsOtherPads(fuse.avg_pool2d), ComputesInFloat(add),
            *WRONG_RULES,
        )),
    ],
    "decompose": [HalfOfIt()],
    "layout": [WrongLayout(walk=_PixelsUnmoved), WrongLayout(walk=_WidthBeforeHeight)],
    "group": [GroupLosesClips()],
    "quantize": [SilentQuantize(calibration="minmax")],
    "fold-quantization": [ZeroPointOff()],
    "dequantize-constants": [OneScaleForAll()],
    "widen": [SilentWiden()],
    "dead-channels": [
        WrongChannels(round=wrong)
        for wrong in (_IgnoresPadding, _IgnoresInputZero, _IntoTheNextBias, _OneBranchIsEnough, _ForgetsOffsets)
    ],
}  # fmt: skip
