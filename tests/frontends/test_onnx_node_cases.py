"""ONNX's own backend node tests, as data: a wrong answer is a bug, "unsupported" with a reason is not."""

import contextlib
import importlib
import warnings

import numpy as np
import onnx
import onnx.backend.test.case.node as node_cases
import pytest

from planish.frontends.onnx import load
from planish.frontends.onnx.adapters import ADAPTERS
from planish.ir.errors import UnsupportedError
from planish.ir.evaluate import evaluate

#: Modules of onnx.backend.test.case.node, and how many of their cases must run, at least.
MODULES = {
    "abs": 1, "add": 8, "attention": 118, "averagepool": 14, "batch_normalization": 2, "cast": 18, "castlike": 18,
    "causal_conv_with_state": 3, "center_crop_pad": 6, "clip": 14, "concat": 12, "constant": 1, "constantofshape": 3,
    "conv": 6, "depthtospace": 4, "dequantizelinear": 6, "div": 10, "dropout": 4, "elu": 6, "erf": 1, "exp": 2,
    "expand": 2, "flatten": 9, "flexattention": 9, "gather": 4, "gemm": 11, "globalaveragepool": 2,
    "globalmaxpool": 2, "greater": 8, "groupnormalization": 2, "gru": 5, "hardsigmoid": 3, "hardswish": 2,
    "identity": 1, "layernormalization": 38, "leakyrelu": 3, "less": 8, "log": 2, "logsoftmax": 21,
    "lpnormalization": 6, "lstm": 4, "matmul": 7, "max": 14, "maxpool": 13, "mean": 3, "meanvariancenormalization": 2,
    "min": 14, "mish": 2, "mul": 9, "neg": 2, "pad": 6, "pow": 8, "prelu": 2, "qlinearconv": 1, "qlinearmatmul": 8,
    "quantizelinear": 6, "reciprocal": 2, "reduce_log_sum": 10, "reduce_log_sum_exp": 17, "reducel1": 18,
    "reducel2": 18, "reducemax": 9, "reducemean": 8, "reducemin": 8, "reducesum": 12, "reducesumsquare": 18,
    "relu": 1, "reshape": 10, "rnn": 5, "rotaryembedding": 8, "selu": 6, "shape": 11, "sigmoid": 2, "size": 2,
    "slice": 8, "softmax": 21, "softplus": 4, "softsign": 4, "spacetodepth": 8, "split": 16, "sqrt": 2, "squeeze": 2,
    "sub": 9, "sum": 3, "tanh": 2, "thresholdedrelu": 6, "tile": 2, "transpose": 7, "unsqueeze": 7, "where": 2,
}  # fmt: skip


def cases(module):
    """The cases of one module whose operators all have an adapter."""
    before = len(node_cases._NodeTestCases)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # overflows that the cases want
        imported = importlib.import_module(f"onnx.backend.test.case.node.{module}")
    if len(node_cases._NodeTestCases) == before:
        importlib.reload(imported)
    new = node_cases._NodeTestCases[before:]
    return [c for c in new if all((n.domain, n.op_type) in ADAPTERS for n in c.model.graph.node)]


def as_array(value):
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def run(case, path):
    """Our outputs and the expected ones. Operands that shapes depend on are bound, as a user would."""
    inputs, outputs = ([as_array(a) for a in arrays] for arrays in case.data_sets[0])
    names = [i.name for i in case.model.graph.input]
    given = dict(zip(names, inputs, strict=True))
    onnx.save(case.model, path)
    for bound in ((), names[1:], names):
        try:
            graph = load(path, bind={name: given[name] for name in bound if isinstance(given[name], np.ndarray)})
            break
        except UnsupportedError:
            if bound == names:
                raise
    return evaluate(graph, [given[v.name] for v in graph.inputs]), outputs


@pytest.mark.parametrize("module", MODULES)
def test_node_cases(module, tmp_path):
    ran = []
    for case in cases(module):
        with contextlib.suppress(UnsupportedError):
            results, expected = run(case, tmp_path / "case.onnx")
            for result, wanted in zip(results, expected, strict=False):
                assert (result.dtype, result.shape) == (wanted.dtype, wanted.shape), case.name
                wide = [np.asarray(a).astype(np.float64) for a in (result, wanted)]
                np.testing.assert_allclose(*wide, rtol=case.rtol, atol=case.atol, err_msg=case.name)
            ran.append(case.name)
    assert len(ran) >= MODULES[module], ran
