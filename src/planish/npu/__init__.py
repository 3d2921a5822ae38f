"""`planish npu`: programs of the NPU as text and bytes, proven and timed."""
