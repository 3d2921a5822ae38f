"""Generated cases: strategies for ops and graphs, and checks that hold ops, rules and passes to their declarations."""

from .draw import HypothesisDraw
from .graphs import graphs, types
from .kernels import check_kernel
from .ops import check_op, graph_of, instances
from .packages import check_package
from .passes import Counterexample, Tally, Unchanged, check_pass, check_rule, graphs_for
from .patterns import graphs_with
from .planted import Planted, graphs_with_dead_channels, planted_graphs
from .quantized import check_quantized
from .variants import quantized_graphs, rescaled_twins

__all__ = [
    "Counterexample",
    "HypothesisDraw",
    "Planted",
    "Tally",
    "Unchanged",
    "check_kernel",
    "check_op",
    "check_package",
    "check_pass",
    "check_quantized",
    "check_rule",
    "graph_of",
    "graphs",
    "graphs_for",
    "graphs_with",
    "graphs_with_dead_channels",
    "instances",
    "planted_graphs",
    "quantized_graphs",
    "rescaled_twins",
    "types",
]
