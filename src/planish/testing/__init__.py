"""Generated cases: strategies for ops and graphs, and checks that hold every op to its own declarations."""

from .draw import HypothesisDraw
from .graphs import graphs
from .ops import check_op, graph_of, instances
from .quantized import check_quantized

__all__ = ["HypothesisDraw", "check_op", "check_quantized", "graph_of", "graphs", "instances"]
