"""The GPU wing: kernels for NVIDIA GPUs. It needs the extra ``cuda`` and is imported on first use."""
