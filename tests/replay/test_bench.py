"""The benchmark's sums, and the peers behind replay's calls."""

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from retrieval_draft.replay import peers
from retrieval_draft.replay.bench import LONG_CONTEXT_TOKENS, bench
from retrieval_draft.replay.peers import LookupPeer, SuffixPeer, SuffixSetting
from retrieval_draft.step import DraftOptions, TreeShape
from retrieval_draft.tree import Int32Array, int32s
from tests.replay.texts import repetitive

OPTIONS = DraftOptions(method="lookup", shape=TreeShape.TREE)


@dataclass
class Drafted:
    token_ids: Sequence[int]
    parents: Sequence[int]
    probs: Sequence[float]


class Cache:
    """Stands in for SuffixDecodingCache: always drafts what was committed last, twice."""

    def __init__(self, depth: int, requests: int) -> None:
        self.calls: list[tuple[str, list[int]]] = []

    def start_request(self, req_id: int, prompt_token_ids: Int32Array) -> None:
        self.calls.append(("start", prompt_token_ids.tolist()))

    def add_active_response(self, req_id: int, token_ids: Int32Array) -> None:
        self.calls.append(("add", token_ids.tolist()))

    def speculate(self, req_id: int, context: Int32Array, **limits: float) -> Drafted:
        self.calls.append(("speculate", context.tolist()))
        last = int(context[-1])
        return Drafted([last, last], [-1, 0], [0.5, 0.25])

    def stop_request(self, req_id: int) -> None:
        self.calls.append(("stop", []))


def test_lookup_drafts_the_first_occurrence_of_the_longest_run() -> None:
    peer = LookupPeer(3)
    peer.open(int32s([1, 2, 3, 4, 9, 2, 3, 5]), None, None)
    peer.commit(int32s([2]), -1, None)
    assert peer.draft().token.tolist() == [3, 4, 9]
    peer.commit(int32s([3]), 0, None)
    assert peer.draft().token.tolist() == [4, 9, 2]
    peer.commit(int32s([7]), 0, None)
    assert len(peer.draft()) == 0
    # 9 2 3 stood once, and 5 followed it.
    peer.commit(int32s([9, 2, 3]), 0, None)
    tree = peer.draft()
    assert tree.token.tolist() == [5, 2, 3]
    assert tree.parent.tolist() == [-1, 0, 1]


def test_suffix_decoding_is_fed_like_ours() -> None:
    cache = Cache(64, -1)
    peer = SuffixPeer(cache, SuffixSetting(1.0, 0.0, 0.1), 8, is_tree=True)
    peer.open(int32s([1, 2]), None, None)
    peer.commit(int32s([3]), -1, None)
    tree = peer.draft()
    peer.close()
    assert cache.calls == [
        ("start", [1, 2]),
        ("add", [3]),
        ("speculate", [1, 2, 3]),
        ("stop", []),
    ]
    assert (tree.token.tolist(), tree.parent.tolist()) == ([3, 3], [-1, 0])
    assert peer.seconds > 0


def test_ratios_and_their_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "ARCTIC_MODULE", "a_peer_of_the_test")
    module = SimpleNamespace(SuffixDecodingCache=Cache)
    monkeypatch.setitem(sys.modules, "a_peer_of_the_test", module)
    done = bench([repetitive(8, 3), repetitive(9, 3)], OPTIONS, (4, 8))
    assert done.has_suffix
    assert [(row.nodes_max, row.file) for row in done.rows] == [
        (n, "by hand") for n in (4, 4, 8, 8)
    ]
    for summary in done.summary:
        rows = [row for row in done.rows if row.nodes_max == summary.nodes_max]
        ratios = [row.ours.mat / row.suffix.mat for row in rows if row.suffix]
        assert summary.mat_ratio == pytest.approx(np.prod(ratios) ** 0.5)
        assert summary.mat_ratio_min == min(ratios)
    assert done.long is not None
    assert done.long.is_repeated
    assert done.long.sequence_bytes >= 4 * LONG_CONTEXT_TOKENS
    assert done.memory is not None
    assert done.memory.learned_tokens == sum(
        len(sequence.output) for sequence in repetitive(9, 3).sequences
    )


def test_without_the_peer_there_are_no_ratios(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "ARCTIC_MODULE", "not_installed_anywhere")
    assert importlib.util.find_spec("not_installed_anywhere") is None
    done = bench([repetitive(8, 2)], OPTIONS, (4,))
    assert not done.has_suffix
    assert done.summary == []
    assert done.rows[0].suffix is None
    assert done.rows[0].mat_ratio is None
    # Ours and the baseline draft the same, but for the matrix of the newest occurrence.
    assert done.rows[0].lookup.mat > 1.0
