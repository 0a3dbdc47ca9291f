"""STAND's table on examples computed by hand: means, orders, growth, and equal bytes on every replica."""

import numpy as np
import pytest

from retrieval_draft.store.kernels import stand as kernels
from retrieval_draft.store.learned import LearnedTier
from retrieval_draft.store.records import Batch, Record, packed_logprobs
from retrieval_draft.store.stand import SHARE_OF_PACKED, SLOT_BYTES, SLOTS_MIN, Stand
from retrieval_draft.tree import int32s


def row(**probabilities: float) -> tuple[np.ndarray, np.ndarray]:
    """One row of 10; `t7=0.5` is token 7 at one half."""
    tokens, packed = np.full((1, 10), -1, np.int32), np.full((1, 10), 255, np.uint8)
    for i, (name, p) in enumerate(probabilities.items()):
        tokens[0, i], packed[0, i] = int(name[1:]), packed_logprobs([np.log(p)])[0]
    return tokens, packed


def known(stand: Stand, *gram: int) -> dict[int, float]:
    """What is expected after these tokens."""
    tokens = int32s(gram)
    slot = kernels.find(stand.grams.keys, kernels.gram_key(tokens, len(tokens), len(tokens)))
    if slot < 0:
        return {}
    ids, shares = stand.grams.tokens[slot].tolist(), stand.grams.shares[slot].tolist()
    return {t: round(s / 65535, 2) for t, s in zip(ids, shares, strict=True) if t >= 0}


def near(**probabilities: float) -> object:
    """As `known` gives them; a log-probability is kept within 1/32 nat."""
    return pytest.approx({int(name[1:]): p for name, p in probabilities.items()}, abs=0.025)


def no_rows() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.empty(0, np.int32), np.empty((0, 10), np.int32), np.empty((0, 10), np.uint8)


def test_the_second_visit_weighs_a_half_and_the_third_a_third() -> None:
    stand = Stand(1 << 20)
    context = int32s([[-1, -1, 1, 2]])
    stand.observe_rows(context, *row(t7=0.8, t8=0.1))
    stand.observe_rows(context, *row(t7=0.4, t9=0.4))
    # 7: (0.8 + 0.4) / 2; 8: 0.1 / 2; 9: 0.4 / 2.
    assert known(stand, 1, 2) == known(stand, 2) == near(t7=0.6, t9=0.2, t8=0.05)
    stand.observe_rows(context, *row(t9=0.8))
    # 7: 2/3 of 0.6; 9: 2/3 of 0.2 + 0.8 / 3; 8: 2/3 of 0.05.
    assert known(stand, 1, 2) == near(t7=0.4, t9=0.4, t8=0.03)


def test_a_mean_follows_drift_after_many_visits() -> None:
    stand = Stand(1 << 20)
    context = int32s([[-1, -1, -1, 1]])
    for _ in range(1000):
        stand.observe_rows(context, *row(t7=1.0))
    for _ in range(100):
        stand.observe_rows(context, *row(t8=1.0))
    # 64 visits count at most: (64/65)^100 = 0.21 of the old is left.
    assert known(stand, 1) == pytest.approx({8: 0.79, 7: 0.21}, abs=0.01)


def test_every_order_up_to_4_learns_and_tokens_without_a_row_count_fully() -> None:
    stand = Stand(1 << 20)
    tokens, packed = row(t6=0.5, t9=0.25)
    stand.observe_text(int32s([1, 2, 3, 4, 5, 6]), 4, int32s([4]), tokens, packed)
    assert known(stand, 1, 2, 3, 4) == known(stand, 4) == {5: 1.0}
    assert known(stand, 2, 3, 4, 5) == known(stand, 5) == near(t6=0.5, t9=0.25)
    assert known(stand, 3) == {}, "4 was learned before"
    assert known(stand, 1, 2, 3, 4, 5) == {}


def test_the_table_doubles_up_to_its_bound_and_then_forgets() -> None:
    bytes_max = 4 * SLOTS_MIN * SLOT_BYTES + 1
    stand = Stand(bytes_max)
    assert stand.nbytes == SLOTS_MIN * SLOT_BYTES
    sizes = []
    for start in range(0, 40_000, 400):
        text = int32s(range(start, start + 401))
        for _ in range(2):
            stand.observe_text(text, 1, *no_rows())
        sizes.append(stand.nbytes)
        assert known(stand, start + 399) == {start + 400: 1.0}, "what came last is known"
    assert sizes == sorted(sizes)
    assert sizes[-1] == 4 * SLOTS_MIN * SLOT_BYTES <= bytes_max
    assert sum(a.itemsize * (a.size // len(a)) for a in stand.grams) == SLOT_BYTES


def test_what_is_visited_again_survives_what_passes_by() -> None:
    stand = Stand(0)
    often = int32s([-1, -1, -1, 500_000]).reshape(1, 4)
    for start in range(0, 100_000, 1000):
        for _ in range(8):
            stand.observe_rows(often, *row(t7=1.0))
        stand.observe_text(int32s(range(start, start + 1000)), 1, *no_rows())
    assert known(stand, 500_000) == {7: 1.0}
    for start in range(200_000, 240_000, 1000):
        stand.observe_text(int32s(range(start, start + 1000)), 1, *no_rows())
    assert known(stand, 500_000) == {}, "and leaves when it is not visited any more"


def test_no_probability_is_so_near_a_rounding_edge_that_platforms_could_differ() -> None:
    for steps in range(255):
        exact = np.exp(-steps / 16) * 65535
        assert abs(exact - SHARE_OF_PACKED[steps]) < 0.5 - 1e-6
    assert SHARE_OF_PACKED[0] == 65535


def test_a_record_teaches_its_path_from_its_own_tokens_and_rejected_nodes_from_theirs() -> None:
    tier = LearnedTier(100, 1 << 20)
    path, packed = row(t9=0.5)
    rejected, packed_rejected = row(t8=0.75)
    record = Record(
        1,
        10,
        int32s([4, 5]).tobytes(),
        int32s([6, 9]).tobytes(),
        row_contexts=int32s([-1, 3, 2, 1]).tobytes(),
        row_at=int32s([2]).tobytes(),
        row_tokens=np.concatenate([rejected, path]).tobytes(),
        row_logprobs=np.concatenate([packed_rejected, packed]).tobytes(),
    )
    tier.apply(Batch("a", 1, [record]))
    assert known(tier.stand, 4, 5) == {6: 1.0}
    assert known(tier.stand, 4, 5, 6) == known(tier.stand, 6) == near(t9=0.5)
    assert known(tier.stand, 3, 2, 1) == known(tier.stand, 1) == near(t8=0.75)
    assert tier.recycling.successors[6, 0] == 9
    assert tier.recycling.successors[1, 0] == 8
    digest = tier.digest()
    again = LearnedTier(100, 1 << 20)
    again.apply(Batch("b", 7, [record]))
    assert again.digest() == digest
    again.stand.observe_rows(int32s([[-1, -1, -1, 1]]), *row(t8=0.75))
    assert again.digest() != digest


def test_ids_outside_the_vocabulary_are_not_learned() -> None:
    tier = LearnedTier(10, 1 << 20)
    tokens, packed = row(t99=0.5, t3=0.25)
    contexts = int32s([-1, -1, -1, 1]).tobytes()
    tier.apply(
        Batch("a", 1, [Record(1, 0, b"", b"", contexts, b"", tokens.tobytes(), packed.tobytes())])
    )
    assert known(tier.stand, 1) == near(t3=0.25)
