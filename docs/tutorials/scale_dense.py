"""The pass of the tutorial `write-a-pass.md`, as one writes it into a file of one's own."""

from dataclasses import dataclass
from typing import Any, ClassVar

from planish.ir.ops.dense import dense
from planish.ir.ops.elementwise import mul
from planish.ir.pattern import const, only_use
from planish.ir.rewrite import Rule, no_match
from planish.passes.base import RulePass
from planish.runtime.contracts import REASSOCIATING, Contract


class ScaleIntoDense(Rule):
    """A factor per output of a dense layer goes into its weights and its bias."""

    def pattern(self, x: Any, w: Any, b: Any, c: Any) -> Any:
        return mul(only_use(dense(x, const(w), const(b))), const(c))

    def rewrite(self, m: Any, x: Any, w: Any, b: Any, c: Any) -> Any:
        if c.shape != b.shape:
            return no_match("the constant is not one factor per output")
        if m.dense.dtype.is_integer:
            return no_match("the layer computes integers")
        return m.dense.like(x, w * c[:, None], b * c)


@dataclass(frozen=True)
class ScaleDense(RulePass):
    """Multiply dense layers by what follows them."""

    contract: ClassVar[Contract] = REASSOCIATING
    rules: ClassVar[tuple[Rule, ...]] = (ScaleIntoDense(),)
