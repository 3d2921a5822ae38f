"""Which ranges activations take, observed over calibration samples, and the encoding that suits them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from ..ir.errors import UsageError
from ..ir.evaluate import evaluate
from ..ir.graph import Graph, Node, Value
from ..ir.op import Op
from ..ir.scheme import Encoding, Scheme
from ..ir.types import Array
from .base import Context, Samples

BINS = 2048
#: Elements of one value that are counted, at most: of larger ones so many in equal distances.
COUNTED = 1 << 22
#: Less is too little, in dB: the noise is a tenth of the signal.
LEAST_DB = 20.0
#: What a bit is worth, in dB: the step is half as large.
BIT_DB = 20 * float(np.log10(2))


@dataclass(frozen=True)
class Statistics:
    """How often an activation took which values: `counts[i]` of them near `centres[i]`, all within [lo, hi]."""

    lo: float
    hi: float
    centres: Array
    counts: Array

    @staticmethod
    def of(parts: Sequence[Statistics]) -> Statistics:
        """Several activations that share one scale."""
        return Statistics(
            min(p.lo for p in parts), max(p.hi for p in parts),
            np.concatenate([p.centres for p in parts]), np.concatenate([p.counts for p in parts]),
        )  # fmt: skip

    def within(self, lo: float, hi: float) -> Statistics | None:
        """Those of the values that lie within a range; None where none does."""
        inside = (self.counts > 0) & (self.centres >= lo) & (self.centres <= hi)
        if not inside.any():
            return None
        return Statistics(max(self.lo, lo), min(self.hi, hi), self.centres[inside], self.counts[inside])

    def noise(self, encoding: Encoding, scheme: Scheme) -> float:
        """The sum of the squared errors that rounding to the codes of a scheme makes."""
        scale, zero = encoding.scale, encoding.zero
        steps = np.clip(np.rint(self.centres / scale) + zero, scheme.lo, scheme.hi) - zero
        return float(self.counts @ np.square(steps * scale - self.centres))

    def sqnr_db(self, encoding: Encoding, scheme: Scheme) -> float:
        """Expected signal-to-noise ratio in dB."""
        return decibel(float(self.counts @ np.square(self.centres)), self.noise(encoding, scheme))

    def __str__(self) -> str:
        return f"{self.lo:.3g}..{self.hi:.3g}"


def decibel(signal: float, noise: float) -> float:
    """10 log10(signal / noise), within 200 either way; 200 where there is no noise, or no signal to lose."""
    if not signal or not noise:
        return 200.0
    return float(np.clip(10 * np.log10(signal / noise), -200, 200))


#: How the range that a scheme encodes is chosen from what was seen.
Method = Callable[[Statistics, Scheme], Encoding]


@dataclass(frozen=True)
class Calibrator:
    """Chooses the encodings of activations: by a method, for a scheme."""

    method: Method
    scheme: Scheme

    def encoding(self, seen: Statistics, symmetric: bool = False) -> Encoding:
        """What suits an activation of which this was seen. symmetric: a reader wants zero point 0."""
        return self.method(seen, self.scheme.centred if symmetric else self.scheme)

    def sqnr_db(self, seen: Statistics, encoding: Encoding) -> float:
        """Expected signal-to-noise ratio in dB of what was seen."""
        return seen.sqnr_db(encoding, self.scheme)

    def is_lost(self, seen: Statistics, encoding: Encoding) -> bool:
        """Whether too little is left at this scale, and a scale of its own would be better by at least a bit."""
        db = self.sqnr_db(seen, encoding)
        return db < LEAST_DB and self.sqnr_db(seen, self.encoding(seen)) >= db + BIT_DB


def samples(context: Context) -> Samples:
    """The calibration samples, from the first. Raises UsageError when there are none."""
    if context.calibration is None:
        raise UsageError(
            "quantize needs calibration data",
            fix="give --calib FILE.npz (arrays by input name) or --calib random:lo,hi",
        )
    return context.calibration()


def calibrate(graph: Graph, context: Context, wanted: Collection[Value]) -> dict[Value, Statistics]:
    """Statistics of the wanted values over the context's samples, which are run twice: for ranges, then histograms.

    A single sample is run once. Of values that only one node reads, those of what it notices of them (`Op.noticed`).
    Values that may be infinite have no statistics. Memory does not grow with the samples. Raises UsageError when there
    are none, when an input is not finite, or when any value is no number.
    """
    reader = {v: found for v in wanted if (found := _reader(graph, v)) is not None}
    infinite: set[Value] = set()
    lo, hi = dict.fromkeys(wanted, np.inf), dict.fromkeys(wanted, -np.inf)
    counts: dict[Value, Array] = {v: np.zeros(BINS, np.int64) for v in wanted}
    is_single = len(list(islice(samples(context), 2))) == 1

    def extend(value: Value, x: Array) -> None:
        if np.isinf(x).any():
            infinite.add(value)
        lo[value], hi[value] = min(lo[value], float(x.min())), max(hi[value], float(x.max()))
        if is_single and value not in infinite:  # its range is known now: the sample need not be run again
            count(value, x)

    def width(value: Value) -> float:
        return max((hi[value] - lo[value]) / BINS, np.finfo(np.float64).tiny)

    def count(value: Value, x: Array) -> None:
        distance = -(-x.size // COUNTED) | 1  # odd: sizes of images and numbers of channels are even
        some = x.reshape(-1)[::distance].astype(np.float64)
        bins = ((some - lo[value]) / width(value)).astype(np.int64)
        counts[value] += np.bincount(np.minimum(bins, BINS - 1), minlength=BINS)

    if not _observe(graph, samples(context), wanted, reader, extend):
        raise UsageError("the calibration data holds no sample", fix="give at least one, better a hundred")
    finite = [v for v in wanted if v not in infinite]
    for value in finite:
        if lo[value] > hi[value]:  # no element of it counts
            lo[value] = hi[value] = 0.0
    if not is_single:
        _observe(graph, samples(context), finite, reader, count)
    return {v: Statistics(lo[v], hi[v], lo[v] + (np.arange(BINS) + 0.5) * width(v), counts[v]) for v in finite}


def _reader(graph: Graph, value: Value) -> list[Node] | None:
    """The only reader of a value, where it does not notice everything, and the movements before it."""
    path: list[Node] = []
    while (user := graph.only_user(value)) is not None and len(user.operands) == 1:
        path.append(user)
        if type(user.op).noticed is not Op.noticed:
            return path
        if not user.op.moves_data:
            break
        value = user.results[0]
    return None


def _noticed(x: Array, path: Sequence[Node]) -> Array:
    """What the last node of a path notices of a value that goes along it."""
    *movements, last = path
    for node in movements:
        x = node.op.ref(x)
    with np.errstate(invalid="ignore"):  # of a row of infinities nothing is noticed
        return np.asarray(last.op.noticed(x))


def _observe(
    graph: Graph,
    samples: Samples,
    wanted: Collection[Value],
    reader: Mapping[Value, Sequence[Node]],
    see: Callable[[Value, Array], None],
) -> int:
    """Run all samples; `see` gets what readers notice of every wanted value. Returns how many samples there were."""

    def check(value: Value, x: Array, number: int) -> None:
        if value not in wanted or not x.size:
            return
        if np.isnan(x).any() or (value.producer is None and np.isinf(x).any()):
            raise UsageError(
                f"%{value.name or '?'} is not finite for calibration sample {number}",
                where=value.producer.describe() if value.producer else f"input {value.name}",
                fix="remove the sample, or correct the model's weights",
            )
        seen = _noticed(x, reader[value]) if value in reader else x
        if seen.size:
            see(value, seen)

    number = -1
    for number, sample in enumerate(samples):
        inputs = [_input(v, sample, number) for v in graph.inputs]
        for value, x in zip(graph.inputs, inputs, strict=True):
            check(value, x, number)

        def listener(node: Node, results: tuple[Array, ...], number: int = number) -> None:
            for value, x in zip(node.results, results, strict=True):
                check(value, x, number)

        evaluate(graph, inputs, listener)
    return number + 1


def _input(value: Value, sample: Mapping[str, Array], number: int) -> Array:
    """The sample's array for an input, in the input's dtype."""
    if value.name not in sample:
        raise UsageError(
            f"calibration sample {number} has no array for input {value.name}", where=f"it has {', '.join(sample)}"
        )
    return np.asarray(sample[value.name], value.type.dtype.numpy)


def minmax(stats: Statistics, scheme: Scheme) -> Encoding:
    """The whole range that was seen."""
    return scheme.encoding(stats.lo, stats.hi)


def percentile(stats: Statistics, scheme: Scheme, outside: float = 1e-4) -> Encoding:
    """The range that leaves out a fraction `outside` of the values at either end."""
    order = np.argsort(stats.centres)
    centres, share = stats.centres[order], np.cumsum(stats.counts[order]) / stats.counts.sum()
    lo, hi = np.searchsorted(share, [outside, 1 - outside])
    low = stats.lo if lo == 0 else float(centres[lo])
    high = stats.hi if hi >= len(centres) - 1 else float(centres[hi])
    return scheme.encoding(low, high)


def mse(stats: Statistics, scheme: Scheme) -> Encoding:
    """The range with the least squared error over the values that were seen; the ends are shrunk in turn."""
    used = replace(stats, centres=stats.centres[stats.counts > 0], counts=stats.counts[stats.counts > 0])

    def error(lo: float, hi: float) -> float:
        return used.noise(scheme.encoding(lo, hi), scheme)

    lo, hi = min(stats.lo, 0.0), max(stats.hi, 0.0)
    fractions = np.linspace(1, 0.2, 81)
    for _ in range(2):
        if lo < 0:
            lo = min((min(stats.lo, 0.0) * f for f in fractions), key=lambda end: error(end, hi))
        if hi > 0:
            hi = min((max(stats.hi, 0.0) * f for f in fractions), key=lambda end: error(lo, end))
    return scheme.encoding(lo, hi)


METHODS: dict[str, Method] = {"minmax": minmax, "percentile": percentile, "mse": mse}
