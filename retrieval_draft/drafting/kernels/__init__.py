"""Numba kernels that gather evidence, mix it and grow trees: no policy, no locks, no tenants."""
