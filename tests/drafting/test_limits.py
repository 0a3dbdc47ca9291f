"""Every method, whatever the tiers hold: a valid tree within its limits."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from retrieval_draft.drafting.methods import Methods
from retrieval_draft.drafting.names import METHODS
from retrieval_draft.drafting.sight import Limits, Sight
from retrieval_draft.tree import EMPTY, DraftTree, int32s
from tests.drafting.sights import VOCAB, broken_limit, ends, sight
from tests.kernels import strategies

token = st.integers(0, VOCAB - 1)
text = st.lists(st.integers(0, 3), min_size=1, max_size=60) | st.lists(
    token, min_size=1, max_size=40
)
texts = st.lists(text, max_size=4)
follows = st.dictionaries(token, st.lists(token, max_size=8), max_size=VOCAB)
expected = st.dictionaries(
    st.lists(st.integers(0, 3), min_size=1, max_size=4).map(tuple),
    st.dictionaries(token, st.floats(0.001, 1), max_size=10),
    max_size=8,
)


def with_model(seen: Sight, shape: tuple[list[int], list[int]]) -> Sight:
    tokens, parents = int32s(shape[0]), int32s(shape[1])
    p = 0.5 ** (1 + np.arange(len(tokens), dtype=np.float32))
    return replace(seen, model_tree=DraftTree(tokens, parents, p))


sights = st.builds(
    with_model,
    st.builds(sight, text, texts, st.lists(texts, max_size=2), follows, expected),
    strategies.trees(),
)
limits = st.builds(
    Limits,
    nodes_max=st.integers(1, 80),
    depth_max=st.integers(1, 64),
    children_max=st.integers(1, 5) | st.just(1 << 16),
    chain=st.booleans(),
    end_tokens=st.lists(token, max_size=3).map(lambda some: ends(*some)),
    temperature=st.sampled_from([0.0, 0.1, 1.0]),
    seed=st.integers(0, 2**64 - 1),
)


@settings(deadline=None, max_examples=120)
@given(sights, limits, st.lists(st.lists(token, min_size=1, max_size=4), max_size=3))
def test_every_methods_tree_keeps_every_limit(
    seen: Sight, asked: Limits, followed: list[list[int]]
) -> None:
    methods = Methods()
    for committed in followed:
        methods.mix.teach(methods.mix.draft(seen, asked), int32s(committed))
        methods.mix.follow(seen, int32s(committed), 0, asked.temperature)
        # Searches are kept by the view that asked for them.
        seen = replace(seen)
    for name in METHODS:
        assert not broken_limit(methods[name].draft(seen, asked).tree, asked, VOCAB), name


@settings(deadline=None, max_examples=60)
@given(sights, limits)
def test_a_draft_depends_on_what_is_seen_alone(seen: Sight, asked: Limits) -> None:
    again = replace(seen)
    for name in METHODS:
        first, second = (Methods()[name].draft(one, asked).tree for one in (seen, again))
        assert first.token.tolist() == second.token.tolist()
        assert first.probability.tolist() == second.probability.tolist()


@settings(deadline=None, max_examples=60)
@given(sights, st.integers(1, 40))
def test_with_more_budget_a_tree_only_grows(seen: Sight, nodes_max: int) -> None:
    # Fused with the worker's own draft, `mix` picks the best of both anew.
    seen = replace(seen, model_tree=EMPTY)
    for name in ("mix", "recycling", "stand", "hierarchy", "rest", "lookup"):
        method = Methods()[name]
        small = method.draft(seen, Limits(nodes_max)).tree
        large = method.draft(seen, Limits(nodes_max + 7)).tree
        assert large.token[: len(small)].tolist() == small.token.tolist()
        assert large.parent[: len(small)].tolist() == small.parent.tolist()
