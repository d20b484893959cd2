"""Kernels for NVIDIA GPUs; they need an extra and are imported on first use."""
