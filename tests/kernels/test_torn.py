"""Tables read while another thread writes them: drafts may be bad, but never out of bounds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_draft.drafting.kernels.evidence import Tiers
from retrieval_draft.drafting.mix import Mix, fresh
from retrieval_draft.drafting.sight import Limits, Sight
from retrieval_draft.store.kernels import windows
from retrieval_draft.store.recycling import Recycling
from retrieval_draft.store.ring import TokenRing
from retrieval_draft.store.stand import Stand
from retrieval_draft.tree import Int32Array, int32s
from tests.drafting.sights import broken_limit, follow
from tests.kernels.strategies import quick

pytestmark = [
    # Without the JIT the hash overflows as numpy scalars do: with a warning; so do torn counts.
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
]
VOCAB = 9
GARBAGE = st.sampled_from([0.0, 0.1, 0.5, 1.0])


def tear(
    array: np.ndarray, share: float, dice: np.random.Generator, spared: np.ndarray | None = None
) -> None:
    """Put any bits in place of a share of the words."""
    words = array.reshape(-1)
    torn = dice.random(len(words)) < share
    if spared is not None:
        torn &= ~spared
    some = dice.integers(0, 256, (int(torn.sum()), words.itemsize), np.uint8)
    words[torn] = some.view(words.dtype).reshape(-1)


def checks(table: Int32Array) -> np.ndarray:
    """Which words decide whether a context is known: torn ones are simply not found.

    The index is spared as well: its words are written whole, and hold addresses of windows or nothing.
    """
    spared = np.zeros(len(table), np.bool_)
    buckets = int(table[windows.BUCKETS])
    first = windows.first_wide(buckets)
    cut = first + buckets * windows.WIDE_WORDS
    spared[:first] = True
    spared[first : cut : windows.WIDE_WORDS] = True
    spared[cut :: windows.NARROW_WORDS] = True
    return spared


def torn_sight(seed: int, share: float) -> Sight:
    dice = np.random.default_rng(seed)
    context, learned = TokenRing(64, 16), TokenRing(64, 16)
    learned.extend(int32s(dice.integers(-1, VOCAB, 90)))
    matrix, table = Recycling(VOCAB), Stand(0)
    text = int32s(dice.integers(0, VOCAB, 60))
    for key, token in zip(text[:-1].tolist(), text[1:].tolist(), strict=True):
        matrix.follow(int32s([key, token]))
    unknown = np.full((1, 10), 255, np.uint8)
    table.observe_text(text, 1, int32s([3]), int32s([range(10)]) % VOCAB, unknown)
    seen = Sight(context, learned, matrix, stand=table)
    follow(Mix(fresh()), seen, dice.integers(0, VOCAB, 50).tolist(), teaching_from=50)
    # The learned tier is what another thread writes.
    tear(learned.tokens, share, dice)
    tear(learned.head, share, dice)
    tear(learned.prev, share, dice)
    tear(learned.table, share, dice, checks(learned.table))
    tear(matrix.successors, share, dice)
    tear(matrix.logprobs, share, dice)
    for array in (table.grams.visits, table.grams.tokens, table.grams.shares):
        tear(array, share, dice)
    return seen


@quick(150)
@given(st.integers(0, 10_000), GARBAGE, st.booleans(), st.integers(1, 40), st.integers(1, 4))
def test_whatever_is_read_a_draft_keeps_its_limits_and_holds_ids_that_stand_somewhere(
    seed: int, share: float, chain: bool, nodes_max: int, children_max: int
) -> None:
    seen, mix = torn_sight(seed, share), Mix(fresh())
    asked = Limits(nodes_max, children_max=children_max, chain=chain)
    standing = np.concatenate(
        [
            seen.context.tokens, seen.context.table, seen.learned.tokens, seen.learned.table,
            seen.recycling.successors.ravel(), seen.stand.grams.tokens.ravel(),
        ]
    )  # fmt: skip
    seen = follow(mix, seen, [1, 2, 3, 1, 2])
    draft = mix.draft(seen, asked)
    tree = draft.tree
    assert not broken_limit(tree, asked, 1 << 31)
    assert set(tree.token.tolist()) <= {*standing.tolist(), 1, 2, 3}
    mix.teach(draft, int32s([1, 2]))
    state = mix.state()
    assert all(np.isfinite(array).all() for array in state.values())
    assert 0 <= state["worth"][..., 0].min() <= state["worth"][..., 0].max() <= 1


def test_what_is_torn_is_what_is_read() -> None:
    """The arrays that are torn above are those that the kernels take."""
    assert set(Tiers._fields) == {
        "context", "context_table", "learned", "learned_table", "corpus", "successors", "logprobs",
        "stand_keys", "stand_visits", "stand_tokens", "stand_shares", "common",
    }  # fmt: skip
    whole, torn = (torn_sight(5, share) for share in (0.0, 1.0))
    drafts = [Mix(fresh()).draft(seen, Limits(32)).tree.token.tolist() for seen in (whole, torn)]
    assert drafts[0] != drafts[1]
