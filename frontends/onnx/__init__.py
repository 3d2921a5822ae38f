"""The way in for ONNX models."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ...ir.graph import Graph
from ...ir.types import Array


def load(
    path: str | os.PathLike[str],
    *,
    dims: Mapping[str, int] | None = None,
    bind: Mapping[str, Array] | None = None,
    notes: list[str] | None = None,
    static_batch: bool = False,
) -> Graph:
    """Import an ONNX model.

    dims: sizes of symbolic dimensions, by name; those not given stay symbols. bind: arrays that replace inputs, by
    name. notes: collects what the user should know.
    static_batch: a lone symbol that is the first dimension of all
    inputs and no other, or is called a batch, is taken as 1, and that is noted.
    Names of inputs and outputs are kept; each node's `loc` is the
    name of the ONNX node it came from.

    Raises ModelError (broken or unsafe file), UnsupportedError (every node that planish cannot take, at once) or
    UsageError (no such file, dimension or input).
    """
    from .functions import inlined
    from .importer import Importer
    from .reader import read_model

    model, folders = read_model(path)
    remarks = notes if notes is not None else []
    return Importer(inlined(model), folders, dims or {}, bind or {}, remarks, static_batch).run()
