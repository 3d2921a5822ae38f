"""A pass in a package of its own: two constants that are subtracted one after the other are one."""

from dataclasses import dataclass

from planish.ir.ops.elementwise import sub
from planish.ir.pattern import const, only_use
from planish.ir.rewrite import Rule, no_match
from planish.passes.base import RulePass
from planish.runtime.contracts import REASSOCIATING


class SubtractSum(Rule):
    """(x - a) - b is x - (a + b)."""

    def pattern(self, x, a, b):
        return sub(only_use(sub(x, const(a), as_="inner")), const(b), as_="outer")

    def rewrite(self, m, x, a, b):
        return no_match("integers could wrap") if m.outer.dtype.is_integer else m.outer.like(x, a + b)


@dataclass(frozen=True)
class SubtractOnce(RulePass):
    """Subtract once what is subtracted twice."""

    contract = REASSOCIATING
    rules = (SubtractSum(),)
