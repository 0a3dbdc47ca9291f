"""Merging into one tree, and the most frequent prefixes, against plain Python."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_draft.drafting.kernels import prefixes, trie
from retrieval_draft.store.corpus import CorpusTier
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
        may = trie.child_of(above[-1], path[-1], n, *bounds, *arrays)
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
    nodes_max, depth_max, children_max, ends = limit
    corpus = CorpusTier([int32s(text)])
    match = corpus.match(int32s(query), 1, 12)
    if not match.length:
        assert query[-1] not in text
        return
    full, order = corpus.tokens.tolist(), corpus.order.tolist()
    found = [at for at in order if full[at : at + match.length] == query[-match.length :]]
    assert order[match.low : match.high] == found
    longer = query[-match.length - 1 :]
    if len(longer) > match.length:
        assert not any(full[at : at + len(longer)] == longer for at in order)
    step = -(-len(found) // samples_max)
    starts = [at + match.length for at in found[::step]]
    token, parent = np.empty(nodes_max, np.int32), np.empty(nodes_max, np.int32)
    count = np.empty(nodes_max, np.int32)
    n = prefixes.grow_prefixes(
        corpus.tokens, corpus.order, match.low, match.high, match.length, samples_max,
        nodes_max, depth_max, children_max, int32s(ends), token, parent, count,
    )  # fmt: skip
    paths: list[tuple[int, ...]] = []
    for i in range(n):
        paths.append((*(paths[parent[i]] if parent[i] >= 0 else ()), int(token[i])))
    expected = twins.grow_prefixes(full, starts, nodes_max, depth_max, children_max, ends)
    assert list(zip(paths, count[:n].tolist(), strict=True)) == expected


@QUICK
@given(strategies.texts.filter(bool), st.integers(0, 3), st.integers(0, 2), st.data())
def test_runs_end_where_the_token_changes(
    text: list[int], skip: int, depth: int, data: st.DataObject
) -> None:
    corpus = CorpusTier([int32s(text)])
    full, order = corpus.tokens.tolist(), corpus.order.tolist()
    assert [prefixes.token_at(corpus.tokens, corpus.order, r, 1, 0) for r in range(len(order))] == [
        twins.token_at(full, order, r, 1, 0) for r in range(len(order))
    ]
    query = full[data.draw(st.integers(0, len(full) - 1)) :][: skip + depth]
    match = corpus.match(int32s(query), 1, 12) if query else None
    if match is None or not match.length or match.length < len(query):
        return
    stop = match.occurrences
    start = data.draw(st.integers(0, stop - 1))
    where = (match.low, 1, match.length, 0, start, stop)
    found = prefixes.run_stop(corpus.tokens, corpus.order, *where)
    assert found == twins.run_stop(full, order, *where)
