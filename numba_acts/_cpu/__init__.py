"""The CPU wing: lanes of eight numbers, kernels over slices, and how they are launched."""
