"""What other packages are written with: the names that stay, wherever the modules behind them go.

    import planish.extending as px

    @px.op
    class Shrink(px.Unary): ...

docs/extending.md is the guide. Builders of ops stand in `planish.ir.ops`, checks in `planish.testing`.
"""

from .backends.c.target import CTarget
from .backends.cortexm.target import CortexMTarget
from .backends.group import Group
from .backends.kernel import Kernel
from .backends.loops import expressions
from .backends.loops.code import Code
from .backends.loops.elements import Scalar, clamped, larger, truncated
from .backends.loops.epilogue import Position
from .backends.loops.kernel import LoopKernel
from .backends.onnx.adapters import channels_first, require_floats
from .backends.onnx.site import Operand, RefusedError, Site
from .frontends.onnx.source import SourceNode
from .ir.builder import builder, const_value, number
from .ir.errors import PlanishError, UnsupportedError, UsageError
from .ir.graph import Graph, Node, Value, graph_input
from .ir.op import Bounds, Cost, Draw, Instance, Op, expect, expect_dtype, op, same_dtype, traffic
from .ir.ops.elementwise import Elementwise
from .ir.ops.quantized import NOT_PROVEN, QuantizedOperand, QuantizedResult, Refusal, overflow
from .ir.ops.unary import Unary
from .ir.ops.windows import centred
from .ir.pattern import const, one, only_use
from .ir.rewrite import NodeRule, Rule, no_match
from .ir.rounding import rounding_error
from .ir.types import BOOL, F32, I8, I16, I32, I64, U8, U16, U32, U64, Array, DType, TensorType, static, type_of
from .passes.base import Changes, Context, Pass, RulePass
from .runtime.contracts import APPROXIMATE, EXACT, REASSOCIATING, Contract, within
from .runtime.target import Artifact, Execution, Limits, Need, Target, Unsupported

__all__ = [
    "APPROXIMATE",
    "BOOL",
    "EXACT",
    "F32",
    "I8",
    "I16",
    "I32",
    "I64",
    "NOT_PROVEN",
    "REASSOCIATING",
    "U8",
    "U16",
    "U32",
    "U64",
    "Array",
    "Artifact",
    "Bounds",
    "CTarget",
    "Changes",
    "Code",
    "Context",
    "Contract",
    "CortexMTarget",
    "Cost",
    "DType",
    "Draw",
    "Elementwise",
    "Execution",
    "Graph",
    "Group",
    "Instance",
    "Kernel",
    "Limits",
    "LoopKernel",
    "Need",
    "Node",
    "NodeRule",
    "Op",
    "Operand",
    "Pass",
    "PlanishError",
    "Position",
    "QuantizedOperand",
    "QuantizedResult",
    "Refusal",
    "RefusedError",
    "Rule",
    "RulePass",
    "Scalar",
    "Site",
    "SourceNode",
    "Target",
    "TensorType",
    "Unary",
    "Unsupported",
    "UnsupportedError",
    "UsageError",
    "Value",
    "builder",
    "centred",
    "channels_first",
    "clamped",
    "const",
    "const_value",
    "expect",
    "expect_dtype",
    "expressions",
    "graph_input",
    "larger",
    "no_match",
    "number",
    "one",
    "only_use",
    "op",
    "overflow",
    "require_floats",
    "rounding_error",
    "same_dtype",
    "static",
    "traffic",
    "truncated",
    "type_of",
    "within",
]  # fmt: skip
