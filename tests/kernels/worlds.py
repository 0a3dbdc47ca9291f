"""Small tiers twice: as the arrays that kernels read, and as the plain mappings of their twins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

from retrieval_draft.drafting.kernels import evidence as kernels
from retrieval_draft.drafting.kernels.bins import BINS, COMMON_KEPT, INPUTS, SCOPES
from retrieval_draft.drafting.kernels.contexts import COLUMNS
from retrieval_draft.drafting.kernels.evidence import Nodes
from retrieval_draft.drafting.kernels.mixing import (
    SETS,
    SETS_USED,
    WEIGHTS,
    Chosen,
    Skill,
    stretch_of,
)
from retrieval_draft.store.kernels import stand
from retrieval_draft.store.kernels.ngrams import ORDER_COUNT
from retrieval_draft.store.ring import TokenRing
from retrieval_draft.store.stand import Grams
from retrieval_draft.tree import Int32Array
from tests.kernels import twins_ngrams
from tests.kernels.strategies import VOCAB, int32s
from tests.kernels.twins_evidence import Evidence, Place, Places, World

CAPACITY = 32
CLASSES = 3
TEXT_MAX = 12
"""Two texts and the tokens that follow stay within the steps that a search takes."""
WINDOW = 5


@dataclass
class Both:
    """One drawn state: `tiers` and the rings for kernels, `world` for their twins."""

    context: TokenRing
    learned: TokenRing
    tiers: kernels.Tiers
    world: World
    written: list[int] = field(default_factory=list)

    def write(self, tokens: Sequence[int]) -> None:
        """The context goes on."""
        self.context.extend(int32s(tokens))
        stop = len(self.written)
        self.written.extend(tokens)
        self.world.context = dict(enumerate(self.written))
        twins_ngrams.count(self.world.context, self.world.context_table, stop, len(self.written))

    def tail(self, path: Sequence[int] = ()) -> list[int]:
        """Newest first."""
        return [*self.written, *path][::-1][: kernels.TAIL]


small = st.integers(0, 3)
text = st.lists(small, max_size=TEXT_MAX)
rows = st.lists(st.integers(-1, VOCAB), min_size=3, max_size=3)
expectations = st.dictionaries(
    st.lists(small, min_size=1, max_size=4).map(tuple),
    st.tuples(
        st.integers(1, 64),
        st.lists(st.tuples(st.integers(0, VOCAB), st.integers(1, 65535)), max_size=4),
    ),
    max_size=6,
)
commons = st.dictionaries(st.integers(0, VOCAB + 3), st.integers(1, 20), max_size=VOCAB)


@st.composite
def worlds(draw: st.DrawFn) -> Both:
    """Tiers of few tokens: contexts repeat, windows and slots overflow."""
    buckets = draw(st.sampled_from([4, 16]))
    context, learned = TokenRing(CAPACITY, buckets), TokenRing(CAPACITY, buckets)
    parts = draw(st.lists(st.lists(small, max_size=TEXT_MAX // 2), max_size=2))
    spoken = [token for part in parts for token in (-1, *part)]
    learned.extend(int32s(spoken))
    learned_table = twins_ngrams.Table(buckets)
    learned_text = dict(enumerate(spoken))
    twins_ngrams.count(learned_text, learned_table, 0, len(spoken))

    windows = draw(st.lists(st.lists(small, max_size=WINDOW), max_size=3))
    corpus = [token for row in windows for token in [*row, *[-1] * (WINDOW + 1 - len(row))]]

    followers = [draw(rows) for _ in range(VOCAB)]
    packed = [[draw(st.sampled_from([0, 9, 70, 255])) for _ in row] for row in followers]
    expected = draw(expectations)
    grams = Grams.empty(64)
    for gram, (visits, row) in expected.items():
        slot = stand.claim(*grams, stand.gram_key(int32s(gram[::-1]), len(gram), len(gram)))
        grams.visits[slot] = visits
        for i, (token, share) in enumerate(row):
            grams.tokens[slot, i], grams.shares[slot, i] = token, share

    known = sorted(draw(commons).items(), key=lambda pair: -pair[1])
    common = np.zeros((2, COMMON_KEPT + 1), np.int32)
    common[0] = -1
    for i, (token, seen) in enumerate(known):
        common[:, i] = token, seen
    total = sum(seen for _, seen in known) + draw(st.integers(0, 3))
    common[1, COMMON_KEPT] = total

    tiers = kernels.Tiers(
        context.tokens, context.table, learned.tokens, learned.table, int32s(corpus or [-1]),
        int32s(followers), np.array(packed, np.uint8), grams.keys, grams.visits, grams.tokens,
        grams.shares, common,
    )  # fmt: skip
    world = World(
        {}, learned_text, dict(enumerate(corpus)), twins_ngrams.Table(buckets), learned_table,
        [[*zip(*pair, strict=True)] for pair in zip(followers, packed, strict=True)],
        expected, [list(pair) for pair in known], total,
    )  # fmt: skip
    both = Both(context, learned, tiers, world)
    both.write(draw(text))
    return both


def empty_world(capacity: int, buckets: int) -> tuple[TokenRing, TokenRing, kernels.Tiers, World]:
    """Nothing is known, and nothing was said."""
    context, learned = TokenRing(capacity, buckets), TokenRing(capacity, buckets)
    common = np.zeros((2, COMMON_KEPT + 1), np.int32)
    common[0] = -1
    tiers = kernels.Tiers(
        context.tokens, context.table, learned.tokens, learned.table, int32s([-1]),
        np.full((VOCAB, 8), -1, np.int32), np.full((VOCAB, 8), 255, np.uint8), *Grams.empty(4)[:2],
        *Grams.empty(4)[3:], common,
    )  # fmt: skip
    tables = twins_ngrams.Table(buckets), twins_ngrams.Table(buckets)
    return context, learned, tiers, World({}, {}, {}, *tables, [], {}, [])


@st.composite
def places_in(draw: st.DrawFn, both: Both) -> Places:
    """Places of all scopes as a root may have them: exact ones first, the longest first."""
    texts = (both.world.context, both.world.learned, both.world.corpus)
    found: list[list[Place]] = []
    for kept in texts:
        positions = [p for p, token in kept.items() if token >= 0]
        drawn: list[Place] = []
        for position in draw(st.lists(st.sampled_from(positions), max_size=5)) if positions else []:
            length = draw(st.sampled_from([0, 1, 2, 3, 7, 15, 16, 40, 63, 64]))
            gap = draw(st.integers(0, 4))
            drawn.append(Place(position, length if gap else max(1, length), kept[position], gap))
        found.append(
            sorted(drawn, key=lambda place: (place.gap > 0, -place.length * (place.gap == 0)))
        )
    return found[0], found[1], found[2]


def row_of(
    ring: TokenRing, root: Nodes, corpus: Int32Array, kind: int, more: Mapping[int, int]
) -> list[int]:
    """A sequence's row of a batch, as kernels/contexts has it; `more` are columns beyond its own."""
    addresses = [array.ctypes.data for array in root]
    where = [*ring.addresses, *addresses, corpus.ctypes.data, len(corpus)]
    row = [*where, ring.low, ring.stop, kind]
    return [*row, *(more.get(column, 0) for column in range(len(row), COLUMNS))]


def by_class(array: np.ndarray, kind: int) -> np.ndarray:
    """A mixer's array by temperature class, of which `kind` is this one; the others must stay as they are."""
    return np.stack([array if one == kind else np.full_like(array, 7) for one in range(CLASSES)])


def empty_nodes(count: int) -> Nodes:
    return Nodes(
        np.full((count, kernels.TAIL + 1), -1, np.int32),
        np.full((count, kernels.PLACES_MAX, kernels.PLACE_COLUMNS), -9, np.int32),
        np.zeros((count, SCOPES + 1), np.int32),
    )


def write_node(nodes: Nodes, node: int, tail: Sequence[int], depth: int, places: Places) -> None:
    nodes.tails[node] = -1
    nodes.tails[node, : len(tail)] = tail
    nodes.tails[node, kernels.TAIL] = depth
    n = 0
    for scope, some in enumerate(places):
        nodes.segments[node, scope] = n
        for place in some:
            nodes.places[node, n] = place.position, place.length, place.next, place.gap
            n += 1
    nodes.segments[node, SCOPES] = n


def read_places(nodes: Nodes, node: int) -> Places:
    bounds = nodes.segments[node].tolist()
    found = [
        [Place(*row) for row in nodes.places[node, bounds[s] : bounds[s + 1]].tolist()]
        for s in range(SCOPES)
    ]
    return found[0], found[1], found[2]


def empty_found() -> kernels.Found:
    return kernels.Found(
        np.full((kernels.FOUND_ROWS, kernels.FOUND_WIDTH), -9, np.int32),
        np.full(kernels.SLOTS, -9, np.int32),
        np.full(kernels.CANDIDATES_MAX, -9.0),
        np.full(kernels.CANDIDATES_MAX, -9.0),
        np.full(ORDER_COUNT, 9, np.uint64),
    )


def read_found(found: kernels.Found) -> Evidence:
    """The kernel's evidence as its twin keeps it."""
    rows = found.rows
    e = Evidence()
    counts = rows[kernels.COUNTS].tolist()
    tokens = rows[kernels.TOKEN, : counts[kernels.CANDIDATES]].tolist()
    for c, token in enumerate(tokens):
        e.listed[token] = {}
        e.blend[token] = float(found.blend[c])
        e.blended[token] = (int(rows[kernels.BLENDED, c]), int(rows[kernels.BLENDED + 1, c]))
    for i in range(counts[kernels.ITEMS]):
        c, index, b = rows[kernels.ITEM_CANDIDATE : kernels.ITEM_BIN + 1, i].tolist()
        e.listed[tokens[c]][index] = b
        e.items.append((tokens[c], index, b))
    for c, token in enumerate(tokens):
        assert int(rows[kernels.LISTED, c]) == sum(1 << index for index in e.listed[token])
    absent = rows[kernels.ABSENT, :INPUTS].tolist()
    e.absent = {index: b for index, b in enumerate(absent) if b >= 0}
    e.orders = counts[kernels.CONTEXT_ORDERS : kernels.LEARNED_ORDERS + 1]
    e.longest = counts[kernels.LONGEST : kernels.LONGEST + SCOPES]
    return e


def skill_of(seed: int) -> Skill:
    """One that knows something of everything, no two things alike."""
    dice = np.random.default_rng(seed)
    worth = np.empty((BINS, 2), np.float32)
    worth[:, 0], worth[:, 1] = dice.uniform(0.01, 0.99, BINS), dice.integers(1, 400, BINS)
    weights = dice.normal(0.1, 0.1, (SETS, WEIGHTS)).astype(np.float32)
    return Skill(worth, stretch_of(worth[:, 0]), weights)


def empty_chosen() -> Chosen:
    return Chosen(np.zeros(SETS_USED, np.int32), np.zeros(WEIGHTS))


def copied(skill: Skill) -> Skill:
    return Skill(*(array.copy() for array in skill))
