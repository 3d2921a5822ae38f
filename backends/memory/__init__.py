"""Where every intermediate value lives: one arena, planned for all targets alike, proven by an independent checker."""

from .checker import check
from .planner import Place, Plan, Row, plan
from .storage import MemoryModel, Space

__all__ = ["MemoryModel", "Place", "Plan", "Row", "Space", "check", "plan"]
