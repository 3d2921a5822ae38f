"""Execute generated C: on this machine, or on an emulated Cortex-M with exact instruction counts."""

from .cores import CORES, Core
from .errors import BuildFailed, DeviceFault, ExecutionError, GuardOverwritten, RunFailed, TimedOut, ToolMissing
from .harness import Buffer, Execution, Spec
from .host import build_on_host, run_on_host
from .qemu import run_on_qemu
from .toolchain import Size

__all__ = [
    "CORES",
    "Buffer",
    "BuildFailed",
    "Core",
    "DeviceFault",
    "Execution",
    "ExecutionError",
    "GuardOverwritten",
    "RunFailed",
    "Size",
    "Spec",
    "TimedOut",
    "ToolMissing",
    "build_on_host",
    "run_on_host",
    "run_on_qemu",
]
