"""Generated cases: strategies for ops and graphs, and checks that hold ops, rules and passes to their declarations."""

from .draw import HypothesisDraw
from .graphs import graphs, types
from .kernels import check_kernel
from .ops import check_op, graph_of, instances
from .passes import Counterexample, Tally, check_pass, check_rule, graphs_for
from .patterns import graphs_with
from .quantized import check_quantized
from .variants import quantized_graphs, rescaled_twins

__all__ = [
    "Counterexample",
    "HypothesisDraw",
    "Tally",
    "check_kernel",
    "check_op",
    "check_pass",
    "check_quantized",
    "check_rule",
    "graph_of",
    "graphs",
    "graphs_for",
    "graphs_with",
    "instances",
    "quantized_graphs",
    "rescaled_twins",
    "types",
]
