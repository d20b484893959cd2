"""Kernels for the CPU: lanes of eight numbers, slices, and how they are launched."""
