"""The GPU wing: kernels for NVIDIA GPUs; it needs an extra and is imported on first use."""
