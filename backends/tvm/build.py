"""From TIR to an object file, through TVM's LLVM."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .machines import Machine

#: TVM's mark of functions whose signature is final: LLVM gets their parameters as they are.
_PLAIN_SIGNATURE = 1


def compile_functions(functions: Mapping[str, Any], machine: Machine) -> bytes:
    """An ELF object with one C function for each PrimFunc, under its name.

    Only the passes that loops over flat buffers need: nothing that TVM's own schedules or its runtime would ask for.
    """
    import tvm
    from tvm import tirx
    from tvm.ir.transform import Sequential

    target = target_of(machine)
    module = tvm.IRModule(
        {
            name: f.with_attr({"global_symbol": name, "calling_conv": _PLAIN_SIGNATURE, "tirx.noalias": True})
            for name, f in functions.items()
        }
    )
    passes = tirx.transform
    lower = Sequential(
        [
            passes.BindTarget(target.with_host(target)),
            passes.FlattenBuffer(),
            passes.VectorizeLoop(True),
            passes.StorageRewrite(),
            passes.UnrollLoop(),
            passes.StmtSimplify(),
            passes.RemoveNoOp(),
            passes.CommonSubexprElim(),
            passes.LowerIntrin(),
        ]
    )
    library = tvm.get_global_func("target.build.llvm")(lower(module), target)
    with tempfile.TemporaryDirectory(prefix="planish-") as folder:
        file = Path(folder, "kernels.o")
        library.write_to_file(str(file))
        return file.read_bytes()


def target_of(machine: Machine) -> Any:
    """TVM's description of the machine."""
    import tvm

    return tvm.target.Target(
        {"kind": "llvm", "mtriple": machine.triple, "mcpu": machine.cpu, "mattr": list(machine.features)}
    )
