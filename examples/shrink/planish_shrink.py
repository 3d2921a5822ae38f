"""Shrink, as denoisers and sparse coders have it: the op in all its forms, and a pass that recognizes it."""

from dataclasses import dataclass

import numpy as np

import planish.extending as px
from planish.ir.ops.elementwise import clip, sub


@px.op
class Shrink(px.Unary):
    """Nearer to 0 by `bias` where |x| > lambd, else 0; of NaN, 0. Its integer form is a table. ONNX Shrink-9."""

    lambd: float = 0.5
    bias: float = 0.0
    ulps = 0.5

    def infer(self, x):
        px.expect(0 <= self.lambd < np.inf and np.isfinite(self.bias), f"no shrink by {self.lambd} and {self.bias}")
        return super().infer(x)

    def ref(self, x):
        return np.where(x < -self.lambd, x + self.bias, np.where(x > self.lambd, x - self.bias, 0))

    def bounds(self, x):
        return px.Bounds(x.type, np.minimum(x.lo - abs(self.bias), 0), np.maximum(x.hi + abs(self.bias), 0))

    @staticmethod
    def examples(draw):
        return px.Instance.of(Shrink(draw.real(0, 4), draw.real(-2, 2)), draw.array(draw.shape(), px.F32, -8, 8))


shrink = px.builder(Shrink)


def from_onnx(node):
    """The importer's adapter."""
    return shrink(node.value(0), lambd=node.real("lambd", 0.5), bias=node.real("bias", 0.0))


def to_onnx(site, op, x):
    """The exporter's."""
    return site.emit("Shrink", x, lambd=op.lambd, bias=op.bias)


def element(op, operands):
    """What kernels compute, in C and in TIR."""
    number, choose, (x,) = px.expressions.number, px.expressions.choose, operands

    def body(x, lambd, bias):
        return choose(x < -lambd, x + bias, choose(x > lambd, x - bias, number(0, x.dtype)))

    return px.expressions.define("shrink", body, x.expr, *(number(v, x.dtype) for v in (op.lambd, op.bias)))


class ShrinkByClip(px.Rule):
    """x - clip(x, -t, t) is x, shrunk by t."""

    def pattern(self, x, lo, hi):
        return sub(x, px.only_use(clip(x, lo=lo, hi=hi)))

    def rewrite(self, m, x, lo, hi):
        fits = x.type.dtype.is_float and -lo == hi and 0 <= hi < np.inf
        return shrink(x, lambd=hi, bias=hi) if fits else px.no_match("the clip's ends are not t and -t")

    def examples(self, draw):
        x, t = px.graph_input("x", px.TensorType(draw.shape(), px.F32)), draw.real(0, 4)
        return sub(x, clip(x, lo=-t, hi=t))


@dataclass(frozen=True)
class SoftShrink(px.RulePass):
    """Recognize soft shrinkage that stands as a difference and a clip. Of NaN it makes 0."""

    contract = px.REASSOCIATING
    rules = (ShrinkByClip(),)
