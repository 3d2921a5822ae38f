"""The numbers that formulas are written with, each written once: patterns, ops and exact arithmetic use these."""

from __future__ import annotations

import math

SQRT_2 = math.sqrt(2)
SQRT_HALF = math.sqrt(1 / 2)
#: Slope and cubic coefficient of the usual approximation of the error function: Hendrycks and Gimpel, arXiv:1606.08415.
SQRT_2_OVER_PI = math.sqrt(2 / math.pi)
GELU_CUBIC = 0.044715
SIXTH = 1 / 6
