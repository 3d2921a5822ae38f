"""Recognition: what exporters write with several ops becomes the op that means it."""

from __future__ import annotations

from ...ir.rewrite import Rule
from .activations import ACTIVATIONS
from .attention import Attention
from .normalizations import NORMALIZATIONS

RECOGNITION: tuple[Rule, ...] = (*ACTIVATIONS, *NORMALIZATIONS, Attention())
