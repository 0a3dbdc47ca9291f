"""Numba kernels that grow trees from places: windows of tokens that followed agreeing contexts."""
