"""The catch-up benchmark: both starts end alike, and the snapshot's reads the tail alone."""

import pytest

from retrieval_draft.replay.catchup import RECORD_TOKENS, Work, measure
from retrieval_draft.store.server_binary import available_server


@pytest.mark.skipif(available_server() is None, reason="no Redis server here")
@pytest.mark.parametrize("with_rows", [False, True])
def test_a_start_from_the_snapshot_ends_where_the_whole_journal_does(with_rows: bool) -> None:
    work = Work(6_000, 2_000, vocab_size=500, learned_bytes_max=1 << 20, with_rows=with_rows)
    steps: list[str] = []
    done = measure(work, steps.append)
    assert done.equal_digests
    assert 6_000 <= done.saved_tokens < 6_000 + RECORD_TOKENS
    assert 2_000 <= done.tail_tokens < 2_000 + RECORD_TOKENS
    assert (done.journal_bytes_per_token > 40) == with_rows
    assert done.snapshot_bytes > 10_000
    assert len(steps) == 5
