"""Numba kernels that gather evidence, mix it and grow trees: no policy, no locks, no tenants."""

import retrieval_draft.store.kernels  # noqa: F401 - readies the cache before the first kernel here
