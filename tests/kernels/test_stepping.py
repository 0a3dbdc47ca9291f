"""A step in one call, against its parts one after another."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_draft.drafting.batch import Learned
from retrieval_draft.drafting.kernels import contexts, growth, paths, tally
from retrieval_draft.drafting.kernels import stepping as kernels
from retrieval_draft.metrics import TALLY_ROWS
from retrieval_draft.store.recycling import Recycling
from retrieval_draft.store.stand import Grams
from retrieval_draft.tree import Int64Array
from tests.kernels import twins_stepping as twins
from tests.kernels import worlds
from tests.kernels.strategies import int32s, quick
from tests.kernels.worlds import Both

# Without the JIT the hash overflows as numpy scalars do: with a warning.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")

METHOD, ROOM = 3, 6
EVERYTHING = kernels.FOLLOW | kernels.GROW | kernels.CUT


@quick(150)
@given(
    worlds.worlds(),
    st.data(),
    st.lists(st.lists(worlds.small, max_size=3), min_size=2, max_size=2),
    st.lists(st.tuples(st.integers(0, 2), st.integers(-1, ROOM)), min_size=1, max_size=3),
    st.booleans(),
    st.sampled_from([0, 4]),
    st.sampled_from([(), (1.0, 9.0)]),
)
def test_a_step_in_one_call_is_its_parts_one_after_another(
    both: Both,
    data: st.DataObject,
    texts: list[list[int]],
    batch: list[tuple[int, int]],
    chain: bool,
    nodes_max: int,
    price: tuple[float, ...],
) -> None:
    """Two steps, so that the second one judges what grew in the first."""
    nodes, milliseconds = int32s([0, 64][: len(price)]), np.array(price, np.float32)
    ends = int32s([2])
    roots = [worlds.empty_nodes(1) for _ in batch]
    for root in roots:
        worlds.write_node(root, 0, both.tail(), 0, data.draw(worlds.places_in(both)))
    skill = worlds.skill_of(3)
    path_worth = np.ones((worlds.CLASSES, 2, 2, paths.BINS), np.float32)
    path_scale = np.ones((worlds.CLASSES, 2, paths.DEPTHS), np.float32)
    given_skill: tuple[np.ndarray, ...] = (both.tiers.common, *skill)
    common, worth, stretch, weights = (np.stack([one] * worlds.CLASSES) for one in given_skill)
    mixer: twins.Mixer = common, worth, stretch, weights, path_worth, path_scale
    counts = np.zeros((TALLY_ROWS, tally.COLUMNS), np.int64)
    ring = both.context
    changed = [
        ring.tokens, ring.head, ring.prev, ring.table, *mixer, counts,
        *(array for root in roots for array in root),
    ]  # fmt: skip
    before = [array.copy() for array in changed]
    learned = learned_of(both)
    step: Callable[..., None] = kernels.step

    def played(in_one_call: bool) -> list[list[object]]:
        for array, old in zip(changed, before, strict=True):
            array[:] = old
        stop, found = ring.stop, list[list[object]]()
        block = np.zeros((growth.PLANES, len(batch), ROOM), np.int32)
        numbers = np.zeros((kernels.NUMBERS, len(batch)), np.int64)
        for number, text in enumerate(texts):
            rows = np.array(
                [
                    worlds.row_of(ring, root, both.tiers.corpus, kind, {
                        contexts.PLANE: numbers[kernels.ADDRESS, i],
                        contexts.STRIDE: len(batch) * ROOM,
                        contexts.SIZE: numbers[kernels.GROWN, i],
                        contexts.SHAPE: int(chain),
                        contexts.ACCEPTED: -1,
                        contexts.VERIFIED: int(number > 0),
                        # All go on in the same context: one after another.
                        contexts.END: len(text) if i == 0 else 0,
                        contexts.NODES_MAX: most,
                        contexts.DEPTH_MAX: 4,
                        contexts.ENDS: ends.ctypes.data,
                        contexts.ENDS_COUNT: len(ends),
                    })
                    for i, ((kind, most), root) in enumerate(zip(batch, roots, strict=True))
                ],
                np.int64,
            )  # fmt: skip
            rows[:, contexts.STOP] = stop
            old, block = block, np.zeros_like(block)
            given = (
                int32s(text), METHOD, counts, 1 << 16, int(chain), 0.0, block, numbers,
                len(batch), nodes_max, nodes, milliseconds,
            )  # fmt: skip
            if in_one_call:
                step(EVERYTHING, rows, 0, len(rows), learned.row(), *mixer, *given)
            else:
                for parts in (kernels.FOLLOW, kernels.GROW, kernels.CUT):
                    twins.step(parts, rows, 0, len(rows), both.tiers, both.learned, mixer, *given)
            assert numbers[kernels.ADDRESS].tolist() == [
                block[0, i].ctypes.data for i in range(len(rows))
            ]
            stop += len(text)
            said: list[object] = [numbers[: kernels.ADDRESS].tolist(), old.tolist(), block.tolist()]
            found.append([*said, rows[:, [contexts.LOW, contexts.STOP]].tolist()])
        return [*found, [array.tolist() for array in changed]]

    assert played(True) == played(False)


def learned_of(both: Both) -> Learned:
    """The world's arrays in place of a learned tier's own."""
    t, matrix = both.tiers, Recycling(1)
    matrix.successors, matrix.logprobs = t.successors, t.logprobs
    credit = np.zeros(len(t.stand_keys), np.uint8)
    grams = Grams(t.stand_keys, t.stand_visits, credit, t.stand_tokens, t.stand_shares)
    return Learned(both.learned, matrix, grams)


def test_what_was_learned_is_read_as_it_is_now() -> None:
    both = Both(*worlds.empty_world(worlds.CAPACITY, 16))
    learned = learned_of(both)
    row: Int64Array = learned.row()
    assert len(row) == kernels.LEARNED_COLUMNS
    assert row[[kernels.LOW, kernels.STOP]].tolist() == [0, 0]
    both.learned.extend(int32s(range(worlds.CAPACITY + 3)))
    assert learned.row()[[kernels.LOW, kernels.STOP]].tolist() == [3, worlds.CAPACITY + 3]
    assert learned.is_of(*learned.parts)
    others = learned_of(both).parts
    assert not learned.is_of(*others), "another matrix"
