"""Samples for calibration and evaluation: `.npz` files keyed by input name (plus `labels`), or `random:lo,hi`.

    read("calib.npz").of(graph)          # a Dataset: every input stacked along a new first axis
    read("random:-1,1").of(graph, 20)    # seeded: the same samples each time and everywhere

An array of a file either has the samples along the input's own batch axis, as images usually are kept (`[N,1,8,8]` for
an input `[1,1,8,8]`), or along a further first axis (`[N,1,1,8,8]`).
"""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..ir.constant import Const
from ..ir.errors import UsageError
from ..ir.graph import Graph, Value
from ..ir.types import Array, Sym, TensorType

#: Samples that are drawn when nobody says how many; fewer, where the graph makes more bytes than these of all of them.
DRAWN, MADE_BYTES = 100, 1 << 28
#: Data that would need more memory than this are refused before they are read or drawn.
LARGEST = 1 << 34
#: Elements that are drawn at once.
PART = 1 << 20
LABELS = "labels"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples that fit one graph.

    arrays: by input name, `[count, *shape of the input]`. labels: `[count]` or `[count, batch]` integers, or None.
    source: how reports cite it.
    """

    arrays: Mapping[str, Array]
    labels: Array | None
    source: str

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __iter__(self) -> Iterator[dict[str, Array]]:
        """One mapping per sample, each array with the shape of its input."""
        return ({name: array[i] for name, array in self.arrays.items()} for i in range(len(self)))

    def first(self, count: int) -> Dataset:
        """The first samples."""
        labels = None if self.labels is None else self.labels[:count]
        return Dataset({name: array[:count] for name, array in self.arrays.items()}, labels, self.source)

    def ranges(self) -> dict[str, tuple[float, float]]:
        """Least and greatest value of each input."""
        return {name: (float(array.min()), float(array.max())) for name, array in self.arrays.items()}


class Data(ABC):
    """Where samples come from, before it is known which graph they are for."""

    source: str

    @abstractmethod
    def of(self, graph: Graph, count: int | None = None) -> Dataset:
        """Samples for this graph, at most `count`. Raises UsageError naming the input that they do not fit."""


def read(text: str | os.PathLike[str]) -> Data:
    """Data by the words of a user: `random:lo,hi` or the path of an `.npz` file. Raises UsageError."""
    word = os.fspath(text)
    if word.startswith("random:"):
        try:
            lo, hi = (float(part) for part in word.removeprefix("random:").split(","))
        except ValueError:
            raise UsageError(
                f"{word!r} is not understood", fix="write random:lo,hi, for instance random:-1,1"
            ) from None
        if not (np.isfinite(lo) and np.isfinite(hi) and lo < hi):
            raise UsageError(f"{word!r} is an empty or infinite range", fix="write random:lo,hi with lo below hi")
        return Random(word, lo, hi)
    return Arrays(Path(word).name, _read_npz(Path(word)))


def uniform(ranges: Mapping[str, tuple[float, float]]) -> Data:
    """Samples that are drawn uniformly, each input from its own range."""
    return Uniform("the calibrated ranges of the inputs", dict(ranges))


def _require_inputs(graph: Graph) -> None:
    if not graph.inputs:
        raise UsageError(f"graph {graph.name} has no input, so there is nothing to sample")


@dataclass(frozen=True)
class Random(Data):
    """Uniform samples, all inputs from one range."""

    source: str
    lo: float
    hi: float

    def of(self, graph: Graph, count: int | None = None) -> Dataset:
        return _drawn(graph, dict.fromkeys(graph.input_names, (self.lo, self.hi)), count, self.source)


@dataclass(frozen=True)
class Uniform(Data):
    """Uniform samples, each input from its own range."""

    source: str
    ranges: Mapping[str, tuple[float, float]]

    def of(self, graph: Graph, count: int | None = None) -> Dataset:
        return _drawn(graph, self.ranges, count, self.source)


def _drawn(graph: Graph, ranges: Mapping[str, tuple[float, float]], count: int | None, source: str) -> Dataset:
    _require_inputs(graph)
    random = np.random.Generator(np.random.PCG64(0))
    size = sum(_bytes(v.type) for v in graph.inputs)
    number = max(1, min(DRAWN, MADE_BYTES // _made(graph))) if count is None else count
    if number * size > LARGEST:
        raise UsageError(
            f"{number} samples of {size:,} bytes each are asked for; at most {LARGEST:,} bytes are drawn",
            fix="draw fewer samples" if number > 1 else "give smaller sizes of the inputs",
        )
    arrays = {v.name: _draw(random, v.type, *ranges[v.name], number) for v in graph.inputs}
    return Dataset(arrays, None, f"{source}, seed 0")


def _made(graph: Graph) -> int:
    """Bytes of all inputs and results of one evaluation; at least 1."""
    results = (v for n in graph.nodes if not isinstance(n.op, Const) for v in n.results)
    return max(1, sum(_bytes(v.type) for v in (*graph.inputs, *results)))


def _bytes(type: TensorType) -> int:
    return math.prod(_sizes(type)) * type.dtype.bits // 8


def _sizes(type: TensorType) -> tuple[int, ...]:
    """The shape of one sample; a symbolic dimension is taken as 1."""
    return tuple(1 if isinstance(d, Sym) else d for d in type.shape)


def _draw(random: np.random.Generator, type: TensorType, lo: float, hi: float, count: int) -> Array:
    """Uniform values that the type holds, `[count, *shape]`; they are drawn in double precision, a part at a time."""
    values = np.empty((count, *_sizes(type)), type.dtype.numpy)
    draw = _uniform(random, type, lo, hi)
    flat = values.reshape(-1)
    for start in range(0, flat.size, PART):
        part = flat[start : start + PART]
        part[...] = draw(part.size)
    return values


def _uniform(random: np.random.Generator, type: TensorType, lo: float, hi: float) -> Callable[[int], Array]:
    """What draws so many values that the type holds."""
    if type.dtype.is_float:
        return lambda size: random.uniform(lo, hi, size)
    if type.dtype.kind == "bool":
        return lambda size: random.integers(0, 2, size)
    low, high = max(int(np.ceil(lo)), type.dtype.min), min(int(np.floor(hi)), type.dtype.max)
    if low > high:
        raise UsageError(f"no {type.dtype} lies within {lo:g} and {hi:g}", fix="give a range that holds some")
    return lambda size: random.integers(low, high, size, dtype=np.int64, endpoint=True)


@dataclass(frozen=True, eq=False)
class Arrays(Data):
    """Samples in arrays by name."""

    source: str
    arrays: Mapping[str, Array]

    def of(self, graph: Graph, count: int | None = None) -> Dataset:
        _require_inputs(graph)
        if missing := [name for name in graph.input_names if name not in self.arrays]:
            wanted = ", ".join(f"{v.name}: {v.type}" for v in graph.inputs)
            raise UsageError(
                f"{self.source} has no array for input {missing[0]!r}; it has {', '.join(map(repr, self.arrays))}",
                fix=f"key the arrays by input name: {wanted}",
            )
        stacked = {v.name: self._stacked(v) for v in graph.inputs}
        if len(lengths := {len(array) for array in stacked.values()}) != 1:
            raise UsageError(f"the inputs in {self.source} have different numbers of samples: {sorted(lengths)}")
        dataset = Dataset(stacked, self._labels(stacked[graph.inputs[0].name], graph.inputs[0].type), self.source)
        if not len(dataset):
            raise UsageError(f"{self.source} holds no sample", fix="give at least one")
        return dataset if count is None else dataset.first(count)

    def _stacked(self, value: Value) -> Array:
        """The array as `[count, *shape]` of the input's dtype."""
        array, type = self.arrays[value.name], value.type
        where = f"input {value.name!r} of {self.source}"
        if array.ndim == type.rank and type.rank:
            batch = type.shape[0] if isinstance(type.shape[0], int) else 1
            if len(array) % batch:
                raise UsageError(f"{len(array)} rows do not fill batches of {batch}", where, f"the input is {type}")
            array = array.reshape(len(array) // batch, batch, *array.shape[1:])
        shape = array.shape[1:]
        if len(shape) != type.rank or any(
            isinstance(d, int) and d != n for d, n in zip(type.shape, shape, strict=True)
        ):
            raise UsageError(
                f"the array has shape {list(self.arrays[value.name].shape)}, the input is {type}",
                where,
                "keep the samples along the batch axis, or along a further first axis",
            )
        return _cast(array, type, where)

    def _labels(self, stacked: Array, type: TensorType) -> Array | None:
        if LABELS not in self.arrays:
            return None
        labels, count = self.arrays[LABELS], len(stacked)
        batch = stacked.shape[1] if stacked.ndim > 1 else 1
        if labels.dtype.kind not in "iu" or labels.size not in (count, count * batch):
            raise UsageError(
                f"the labels in {self.source} are {labels.dtype}{list(labels.shape)}",
                fix=f"give one integer for each of the {count} samples",
            )
        return labels.reshape(count, -1).astype(np.int64)


def _cast(array: Array, type: TensorType, where: str) -> Array:
    """The array in the input's dtype, where that loses no more than float precision."""
    if array.dtype.kind not in "biuf":
        raise UsageError(f"the array holds {array.dtype}, not numbers", where, f"the input is {type}")
    with np.errstate(all="ignore"):
        cast = array.astype(type.dtype.numpy)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UsageError("the array holds NaN or infinity", where, "leave such samples out")
    if not type.dtype.is_float and not np.array_equal(cast.astype(np.float64), array.astype(np.float64)):
        raise UsageError(f"the array holds {array.dtype} that {type.dtype} cannot hold", where, f"the input is {type}")
    return cast


def _read_npz(path: Path) -> dict[str, Array]:
    """The arrays of a file, none of them pickled. Raises UsageError."""
    fix = "give an .npz file, written by numpy.savez(FILE, input_name=array), or random:lo,hi"
    if not path.is_file():
        state = "is a folder" if path.is_dir() else "does not exist" if not path.exists() else "is no regular file"
        raise UsageError(f"{path} {state}", fix=fix)
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > LARGEST:
            raise UsageError(f"{path} holds {size:,} bytes; at most {LARGEST:,} are read", fix="give fewer samples")
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (
        zipfile.BadZipFile,
        zlib.error,
        ValueError,
        EOFError,
        KeyError,
        OSError,
        NotImplementedError,
        MemoryError,
    ) as error:
        raise UsageError(f"{path} cannot be read: {error}", fix=fix) from None
