"""Merging into one tree, and the most frequent prefixes, against plain Python."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_draft.drafting.kernels import prefixes, trie
from retrieval_draft.store.corpus import CorpusTier, match
from retrieval_draft.store.segment import Segment
from tests.kernels import strategies
from tests.kernels import twins_trie as twins
from tests.kernels.strategies import int32s, tokens

QUICK = settings(deadline=None, max_examples=300)
ROOM = 24

limits = st.tuples(
    st.integers(0, ROOM), st.integers(1, 4), st.integers(1, 3), st.lists(tokens, max_size=2)
)
rows = st.lists(
    st.tuples(
        st.lists(st.integers(0, 2), max_size=3).map(lambda row: row + [-1] * (3 - len(row))),
        st.integers(1, 255),
    ),
    max_size=8,
)


@st.composite
def weighted_trees(draw: st.DrawFn) -> tuple[list[int], list[int], list[float], list[int]]:
    token, parent = draw(strategies.trees())
    shares = [draw(st.sampled_from([0.25, 0.5, 1.0])) for _ in token]
    probability: list[float] = []
    for above, share in zip(parent, shares, strict=True):
        probability.append(share * (probability[above] if above >= 0 else 1.0))
    return token, parent, probability, [draw(st.integers(1, 255)) for _ in token]


@QUICK
@given(limits, st.lists(rows | weighted_trees(), max_size=3), st.sampled_from([0.0, 0.3]))
def test_sequences_and_trees_share_their_longest_prefixes(
    limit: tuple[int, int, int, list[int]], parts: list[object], first_min: float
) -> None:
    expected = twins.Trie(*limit)
    nodes_max, depth_max, children_max, ends = limit
    bounds = (nodes_max, depth_max, children_max, int32s(ends))
    arrays = (
        np.empty(ROOM, np.int32),
        np.empty(ROOM, np.int32),
        np.empty(ROOM, np.float32),
        np.empty(ROOM, np.uint32),
    )
    n = 0
    for part in parts:
        if isinstance(part, tuple):
            token, parent, probability, source = part
            twins.graft(expected, token, parent, probability, source, first_min)
            floats, masks = np.array(probability, np.float32), np.array(source, np.uint32)
            n = trie.graft(
                int32s(token), int32s(parent), floats, masks, first_min, *bounds, n, *arrays
            )
        elif isinstance(part, list):
            table, bits = [row for row, _ in part], [mask for _, mask in part]
            twins.merge_rows(expected, table, 0.5, bits)
            masks = np.array(bits, np.uint32)
            n = trie.merge_rows(int32s(table, 3), len(table), 0.5, masks, *bounds, n, *arrays)
    got = [column[:n].tolist() for column in arrays]
    assert list(zip(got[0], got[1], strict=True)) == expected.listed()
    assert got[2] == pytest.approx([p for p, _ in expected.nodes.values()])
    assert got[3] == [mask for _, mask in expected.nodes.values()]
    for path in [(0,), (1, 2), (2, 0, 1)]:
        above = (-1, *(list(expected.nodes).index(p) for p in [path[:-1]] if p in expected.nodes))
        if len(path) > 1 and path[:-1] not in expected.nodes:
            continue
        may = trie.child_of(above[-1], path[-1], n, *bounds, *arrays[:2])
        assert (may >= 0) == twins.child_of(expected, path)


@QUICK
@given(
    strategies.texts,
    strategies.queries.filter(bool),
    st.integers(1, 6),
    limits,
)
def test_the_most_frequent_prefixes_behind_a_match_are_found(
    text: list[int], query: list[int], samples_max: int, limit: tuple[int, int, int, list[int]]
) -> None:
    nodes_max, depth_max, children_max, stops = limit
    segment, full, order = built(text)
    found = match(segment, int32s(query), 1, 12)
    if not found.length:
        assert query[-1] not in text
        return
    ends = [at for at in order if full[at : at + found.length] == query[-found.length :]]
    assert order[found.low : found.high] == ends
    longer = query[-found.length - 1 :]
    if len(longer) > found.length:
        assert not any(full[at : at + len(longer)] == longer for at in order)
    step = -(-len(ends) // samples_max)
    starts = [at + found.length for at in ends[::step]]
    token, parent = np.empty(nodes_max, np.int32), np.empty(nodes_max, np.int32)
    count = np.empty(nodes_max, np.int32)
    n = prefixes.grow_prefixes(
        segment.index, found.low, found.high, found.length, samples_max,
        nodes_max, depth_max, children_max, int32s(stops), token, parent, count,
    )  # fmt: skip
    paths: list[tuple[int, ...]] = []
    for i in range(n):
        paths.append((*(paths[parent[i]] if parent[i] >= 0 else ()), int(token[i])))
    # Of equals the smaller code is met first: the twin counts codes.
    codes = [code or -1 for code in segment.index.codes.tolist()]
    vocabulary = segment.index.vocabulary.tolist()
    ended = [vocabulary.index(stop) + 1 for stop in stops if stop in vocabulary]
    counted = twins.grow_prefixes(codes, starts, nodes_max, depth_max, children_max, ended)
    expected = [(tuple(vocabulary[c - 1] for c in path), count) for path, count in counted]
    assert list(zip(paths, count[:n].tolist(), strict=True)) == expected


@QUICK
@given(strategies.texts.filter(bool), st.integers(0, 3), st.data())
def test_runs_end_where_the_code_changes(text: list[int], length: int, data: st.DataObject) -> None:
    segment, full, order = built(text)
    codes = segment.index.codes.tolist()
    assert [prefixes.code_behind(segment.index, r, 1) for r in range(len(order))] == [
        twins.code_behind(codes, order, r, 1) for r in range(len(order))
    ]
    query = full[data.draw(st.integers(0, len(full) - 1)) :][:length]
    found = match(segment, int32s(query), 1, 12) if query else None
    if found is None or not found.length or found.length < len(query):
        return
    stop = found.occurrences
    start = data.draw(st.integers(0, stop - 1))
    where = (found.low, 1, found.length, start, stop)
    assert prefixes.run_stop(segment.index, *where) == twins.run_stop(codes, order, *where)


def built(text: list[int]) -> tuple[Segment, list[int], list[int]]:
    """A segment of the documents between the boundaries, its text with these as -1, and its order."""
    documents: list[list[int]] = [[]]
    for one in text:
        if one < 0:
            documents.append([])
        else:
            documents[-1].append(one)
    (segment,) = CorpusTier.of_documents([int32s(document) for document in documents]).segments
    vocabulary = [-1, *segment.index.vocabulary.tolist()]
    full = [vocabulary[code] for code in segment.index.codes.tolist()]
    return segment, full, segment.index.order.tolist()
