"""The way from any arrays to the kernels: a door, rules, and a hall for each kind of array."""
