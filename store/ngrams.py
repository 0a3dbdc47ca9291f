"""An n-gram table: which tokens followed the last 1, 2, 3, 4 and 6 tokens, and how often."""

from retrieval_draft.store.kernels import ngrams as kernels
from retrieval_draft.store.pages import zeroed
from retrieval_draft.tree import Int32Array

BUCKETS_MIN = kernels.PROBES
BUCKET_BYTES = 4 * kernels.UNIT
BUCKETS_PER_TOKEN = 1.0
"""Of a context: half of it costs 0.7 % of MAT, twice as many bring nothing."""


def buckets_within(bytes_max: int) -> int:
    """The largest power of two of buckets whose table stays within `bytes_max`."""
    return 1 << (max(BUCKETS_MIN, bytes_max // BUCKET_BYTES).bit_length() - 1)


def empty_table(buckets: int) -> Int32Array:
    """A table that knows nothing; `buckets` is a power of two, BUCKETS_MIN or more."""
    assert buckets >= BUCKETS_MIN, f"{buckets} buckets"
    assert buckets & (buckets - 1) == 0, "a power of two, for masking"
    return zeroed(buckets * kernels.UNIT)
