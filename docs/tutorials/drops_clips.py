"""A pass that is wrong, for the tutorial on debugging."""

from dataclasses import dataclass
from typing import Any, ClassVar

from planish.ir.ops.conv import conv2d
from planish.ir.ops.elementwise import clip
from planish.ir.rewrite import Rule
from planish.passes.base import RulePass


class DropClip(Rule):
    """A clip of a convolution is the convolution: wrong."""

    def pattern(self, x: Any, w: Any, b: Any) -> Any:
        return clip(conv2d(x, w, b))

    def rewrite(self, m: Any, x: Any, w: Any, b: Any) -> Any:
        return m.conv2d.like(x, w, b)


@dataclass(frozen=True)
class DropsClips(RulePass):
    """Remove activations. It says that it changes nothing."""

    rules: ClassVar[tuple[Rule, ...]] = (DropClip(),)
