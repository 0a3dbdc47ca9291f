"""Numba kernels over the stores' flat arrays: no policy, no locks, no tenants."""
