"""Mobile code: kernels generated as TIR, compiled by TVM's LLVM into one object that needs no TVM to run."""
