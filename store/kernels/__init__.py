"""Numba kernels over the stores' flat arrays: no policy, no locks, no tenants."""

from retrieval_draft.store.kernel_cache import drop_stale, make_writable

drop_stale()
make_writable()
