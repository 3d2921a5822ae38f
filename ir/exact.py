"""Exact numbers: the elements of the dtype `exact`, in which an algebraic identity holds or does not.

Rational arithmetic rounds nothing, so two graphs that are equal over the reals give equal results: there is no
tolerance for a wrong formula to hide in. A float enters as the rational number that it is, but for the few that are the
nearest to a number of `literals`: sqrt 2 rounded to 24 bits means sqrt 2, so that dividing by it and multiplying by
its inverse are one thing. Functions whose values are not rational are uninterpreted: a fixed hash of the
argument, with the range, the sign and the simple values of the function. Equal arguments give equal results, others in
all likelihood different ones.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from fractions import Fraction
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import InferenceError
from .literals import GELU_CUBIC, SIXTH, SQRT_2, SQRT_2_OVER_PI, SQRT_HALF

#: Larger powers are uninterpreted as well: their digits would fill the memory.
LARGEST_POWER = 16
#: Bits of a hash. A power of two below the fraction keeps sums of many of them short.
HASH_BITS = 24


class Undefined(ArithmeticError):
    """A value that the reals do not have: a division by zero, the root of a negative number, an infinity."""


class Exact:
    """A rational number. Floats enter exactly, literals as what they mean; none comes out.

    There is no `__float__`, so any cast raises TypeError.

    NumPy's functions of object arrays call the operators and methods of the elements: `np.sqrt(x)` calls `x.sqrt()`.
    """

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = _rational(value)

    def __repr__(self) -> str:
        return str(self.value)

    def __hash__(self) -> int:
        return hash(self.value)

    def __eq__(self, other: object) -> bool:
        return self._compared(operator.eq, other)

    def __ne__(self, other: object) -> bool:
        return self._compared(operator.ne, other)

    def __lt__(self, other: Any) -> bool:
        return self._compared(operator.lt, other)

    def __le__(self, other: Any) -> bool:
        return self._compared(operator.le, other)

    def __gt__(self, other: Any) -> bool:
        return self._compared(operator.gt, other)

    def __ge__(self, other: Any) -> bool:
        return self._compared(operator.ge, other)

    def _compared(self, comparison: Callable[[Any, Any], bool], other: Any) -> bool:
        # Infinities are no exact numbers, but clips and maxima compare with them.
        return comparison(self.value, other.value if isinstance(other, Exact) else _LITERALS.get(other, other))

    def __bool__(self) -> bool:
        return self.value != 0

    def __neg__(self) -> Exact:
        return Exact(-self.value)

    def __abs__(self) -> Exact:
        return Exact(abs(self.value))

    def __add__(self, other: Any) -> Exact:
        return Exact(self.value + _rational(other))

    __radd__ = __add__

    def __sub__(self, other: Any) -> Exact:
        return Exact(self.value - _rational(other))

    def __rsub__(self, other: Any) -> Exact:
        return Exact(_rational(other) - self.value)

    def __mul__(self, other: Any) -> Exact:
        return Exact(self.value * _rational(other))

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Exact:
        return _quotient(self.value, _rational(other))

    def __rtruediv__(self, other: Any) -> Exact:
        return _quotient(_rational(other), self.value)

    def __floor__(self) -> Exact:
        return Exact(math.floor(self.value))

    def __ceil__(self) -> Exact:
        return Exact(math.ceil(self.value))

    def astype(self, dtype: Any) -> Exact:
        """Itself, as an object: NumPy gives the bare element where a result has no dimension, and a `ref` goes on."""
        if np.dtype(dtype) != np.object_:
            raise TypeError(f"an exact number is no {np.dtype(dtype)}: 'Exact' is not to be cast")
        return self

    def rint(self) -> Exact:
        """The nearest whole number, ties to even."""
        return Exact(round(self.value))

    def __pow__(self, exponent: Any) -> Exact:
        return _power(self, _rational(exponent))

    def __rpow__(self, base: Any) -> Exact:
        return _power(Exact(base), self.value)

    def sqrt(self) -> Exact:
        """The root of a square of a rational is that rational; any other is uninterpreted, and positive."""
        if self.value < 0:
            raise Undefined(f"the square root of {self}")
        roots = math.isqrt(self.value.numerator), math.isqrt(self.value.denominator)
        if (roots[0] ** 2, roots[1] ** 2) == self.value.as_integer_ratio():
            return Exact(Fraction(*roots))
        return _hashed("sqrt", self.value)

    def exp(self) -> Exact:
        """Positive, 1 at 0, above 1 for what is positive and below for what is negative."""
        fraction = _hashed("exp", self.value)
        return fraction + 1 if self.value > 0 else fraction if self.value else Exact(1)

    def log(self) -> Exact:
        """0 at 1, positive above, negative below."""
        if self.value <= 0:
            raise Undefined(f"the logarithm of {self}")
        return _hashed("log", self.value) * _sign(self.value - 1)

    def tanh(self) -> Exact:
        """Odd, within (-1, 1)."""
        return _hashed("tanh", abs(self.value)) * _sign(self.value)

    def erf(self) -> Exact:
        """Odd, within (-1, 1)."""
        return _hashed("erf", abs(self.value)) * _sign(self.value)


def exact(array: Any) -> npt.NDArray[Any]:
    """An array of `Exact` from numbers of any kind. Raises Undefined for NaN and infinities."""
    return np.asarray(_wrapped(array), object)


def bits(array: npt.NDArray[Any]) -> bytes:
    """What tells arrays of one dtype and shape apart: their bits, so that NaN equals itself and -0.0 is not 0.0."""
    return repr(array.tolist()).encode() if array.dtype == object else array.tobytes()


def _rational(value: Any) -> Fraction:
    if isinstance(value, np.ndarray) and not value.ndim:
        value = value[()]
    if isinstance(value, Fraction):
        return value
    if isinstance(value, Exact):
        return value.value
    number: Any = value.item() if isinstance(value, np.generic) else value
    if number in _LITERALS:
        return _LITERALS[number]
    if not isinstance(number, int | float):
        # ml_dtypes' scalars give themselves; everything else here is no number at all.
        if not isinstance(value, np.generic) or not np.can_cast(value.dtype, np.float64):
            raise InferenceError(f"{type(value).__name__} is no exact number")
        number = float(value)
    try:
        return Fraction(number)
    except (OverflowError, ValueError):
        raise Undefined(f"{number} is no exact number") from None


def _quotient(dividend: Fraction, divisor: Fraction) -> Exact:
    if not divisor:
        raise Undefined(f"{dividend} divided by zero")
    return Exact(dividend / divisor)


def _power(base: Exact, exponent: Fraction) -> Exact:
    """Whole powers are products; half powers are roots, of the same symbol as `sqrt`; others are uninterpreted."""
    if exponent < 0:
        return 1 / _power(base, -exponent)
    if exponent.denominator == 1 and exponent <= LARGEST_POWER:
        return Exact(base.value**exponent.numerator)
    if exponent.denominator == 2 and exponent <= LARGEST_POWER:
        return base.sqrt() * Exact(base.value ** int(exponent))
    if base.value < 0:
        raise Undefined(f"{base} to the power {exponent}")
    return _hashed(f"power {exponent}", base.value) if base.value else base


def _hashed(function: str, argument: Fraction) -> Exact:
    """A number in (0, 1) that stands for the function of this argument, the same in every process."""
    digest = blake2b(f"{function}({argument})".encode(), digest_size=HASH_BITS // 8).digest()
    return Exact(Fraction(2 * int.from_bytes(digest) + 1, 2 ** (HASH_BITS + 1)))


def _sign(value: Fraction) -> int:
    return (value > 0) - (value < 0)


def _literals() -> dict[float, Fraction]:
    """What floats stand for that are the nearest to a number that formulas name: in single and in double precision."""
    root, slope = _hashed("sqrt", Fraction(2)).value, _hashed("sqrt", Fraction(2 / math.pi)).value
    meant = {
        SQRT_2: root, SQRT_HALF: 1 / root, SQRT_2_OVER_PI: slope, GELU_CUBIC: Fraction(44715, 10**6),
        SIXTH: Fraction(1, 6),
    }  # fmt: skip
    return {float(kind(number)): value for number, value in meant.items() for kind in (np.float32, np.float64)}


_LITERALS = _literals()
_wrapped = np.frompyfunc(lambda x: x if isinstance(x, Exact) else Exact(x), 1, 1)
