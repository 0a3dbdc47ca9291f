"""`bench stall`, small: every step is answered, and nothing is lost, whatever Redis does."""

import pytest

from retrieval_draft.replay.stall import stalls
from retrieval_draft.store.server_binary import available_server


@pytest.mark.skipif(available_server() is None, reason="no Redis server on this machine")
def test_a_redis_that_stands_still_is_compared() -> None:
    pairs: list[int] = []
    done = stalls(2, 30, lambda: pairs.append(1))
    assert [one.fault for one in done] == ["well (control)", "paused", "slowed by 500 ms"]
    assert len(pairs) == 6
    for one in done:
        assert (one.errors, one.dropped) == (0, 0)
        assert 0 < one.ill.us_p50 <= one.ill.us_p99
        assert 0 < one.well.us_p50 <= one.well.us_p99
