"""What came of a batch's trees, against one tree after another in plain Python."""

from dataclasses import dataclass, field

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from retrieval_draft.drafting.kernels import contexts, paths, tally
from retrieval_draft.drafting.kernels import judging as kernels
from retrieval_draft.drafting.kernels.bins import SCOPES
from retrieval_draft.drafting.kernels.evidence import LENGTH, PLACE_COLUMNS, PLACES_MAX
from retrieval_draft.drafting.kernels.growth import (
    KEEP,
    PARENT,
    PATH_BIN,
    PLANES,
    PROBABILITY,
    SOURCE,
    TOKEN,
)
from retrieval_draft.metrics import TALLY_ROWS
from tests.kernels import strategies, twins, twins_paths
from tests.kernels.strategies import int32s, quick

CLASSES, SHAPES, METHOD = 3, 2, 4


@dataclass
class Tree:
    """One row: what grew, which nodes of it were drafted, and what came."""

    token: list[int]
    parent: list[int]
    keep: list[int]
    worth: list[float]
    committed: list[int]
    accepted: int
    verified: bool
    kind: int
    shape: int
    agreement: int
    mapped: list[tuple[int, int, float]] = field(default_factory=list)

    @property
    def source(self) -> list[int]:
        return [1 << (i % 32) for i in range(len(self.token))]


@st.composite
def judged(draw: st.DrawFn) -> Tree:
    token, parent = draw(strategies.trees())
    keep: list[int] = []
    for above in parent:
        keep.append(int(draw(st.booleans()) and (above < 0 or keep[above] > 0)))
    worth = [draw(st.sampled_from([0.125, 0.25, 0.5, 1.0])) for _ in token]
    committed = draw(st.lists(strategies.tokens, max_size=6))
    numbers = [draw(st.integers(*bounds)) for bounds in ((-1, 4), (0, 1), (0, 2), (0, 1), (0, 70))]
    accepted, verified, kind, shape, agreement = numbers
    return Tree(
        token, parent, keep, worth, committed, accepted, bool(verified), kind, shape, agreement
    )


@quick(200)
@given(st.lists(judged(), min_size=1, max_size=4), st.integers(0, 99))
def test_every_tree_teaches_its_path_map_and_the_verified_ones_are_counted(
    batch: list[Tree], seed: int
) -> None:
    dice = np.random.default_rng(seed)
    trials = dice.uniform(1, 2048, (CLASSES, SHAPES, paths.BINS))
    share = dice.uniform(0, 1, trials.shape)
    worth = np.stack([trials * share, trials], axis=2).astype(np.float32)
    scale = dice.uniform(0.25, 4, (CLASSES, SHAPES, paths.DEPTHS)).astype(np.float32)
    plain_worth, plain_scale = worth.astype(np.float64).tolist(), scale.astype(np.float64).tolist()
    room = max(1, *(len(tree.token) for tree in batch))
    block = np.full((PLANES, len(batch), room), -9, np.int32)
    places = [np.zeros((PLACES_MAX, PLACE_COLUMNS), np.int32) for _ in batch]
    segments = int32s([0] * SCOPES + [1])
    rows: list[np.ndarray] = []
    at = 0
    for i, tree in enumerate(batch):
        n = len(tree.token)
        mapped, bins = np.array(tree.worth, np.float32), int32s([0] * n)
        where = worth[tree.kind, tree.shape], scale[tree.kind, tree.shape]
        paths.map_paths(int32s(tree.parent), mapped, n, *where, bins)
        tree.mapped = [
            (int(b) // paths.BINS, int(b) % paths.BINS, float(p))
            for b, p in zip(bins, mapped, strict=True)
        ]
        planes = {
            TOKEN: tree.token,
            PARENT: tree.parent,
            PATH_BIN: bins.tolist(),
            KEEP: tree.keep,
        }
        for plane, values in planes.items():
            block[plane, i, :n] = values
        block[PROBABILITY, i, :n] = mapped.view(np.int32)
        block[SOURCE, i, :n] = np.array(tree.source, np.uint32).view(np.int32)
        places[i][0, LENGTH] = tree.agreement
        end = at + len(tree.committed)
        row = np.zeros(contexts.COLUMNS, np.int64)
        row[contexts.PLANE : contexts.VERIFIED + 1] = (
            block[TOKEN, i].ctypes.data, len(batch) * room, n, tree.shape, tree.accepted, tree.verified
        )  # fmt: skip
        row[contexts.KIND] = tree.kind
        row[contexts.FIRST : contexts.END + 1] = at, end
        row[contexts.PLACES] = places[i].ctypes.data
        row[contexts.SEGMENTS] = segments.ctypes.data
        rows.append(row)
        at = end
    counts = np.zeros((TALLY_ROWS, tally.COLUMNS), np.int64)
    kept = np.full(len(batch), -9, np.int64)
    tokens = int32s([token for tree in batch for token in tree.committed])
    kernels.judge(np.stack(rows), tokens, worth, scale, METHOD, counts, kept)
    expected = np.zeros_like(counts)
    for i, tree in enumerate(batch):
        where = plain_worth[tree.kind][tree.shape], plain_scale[tree.kind][tree.shape]
        twins_paths.teach_paths(tree.token, tree.parent, tree.mapped, tree.committed, *where)
        assert kept[i] == counted(tree, expected)
    assert counts.tolist() == expected.tolist()
    assert np.allclose(worth, plain_worth, rtol=1e-5)
    assert np.allclose(scale, plain_scale, rtol=1e-5)


def counted(tree: Tree, table: np.ndarray) -> int:
    """Add the drafted nodes' counts to the table; how many were kept, -1 if that is not known."""
    nodes = [i for i, kept in enumerate(tree.keep) if kept]
    place = {node: i for i, node in enumerate(nodes)} | {-1: -1}
    token, parent = [tree.token[i] for i in nodes], [place[tree.parent[i]] for i in nodes]
    path = twins.followed(token, parent, tree.committed)
    if not tree.verified or tree.accepted > len(path):
        return -1
    path = path if tree.accepted < 0 else path[: tree.accepted]
    if nodes:
        source, worth = [tree.source[i] for i in nodes], [tree.mapped[i][2] for i in nodes]
        table += twins.tallied(parent, source, worth, path, tree.agreement, METHOD)
    return len(path)
