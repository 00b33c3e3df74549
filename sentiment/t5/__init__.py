"""The T5 network as tensors, on CPUs and GPUs. Must not know files, text or rows."""
