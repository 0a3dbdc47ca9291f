"""The law of the emitted tokens, exactly: every draw of a toy target is enumerated."""

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
import pytest

from retrieval_draft.gpu.verify import Verified, match
from retrieval_draft.tree import EMPTY, DraftTree
from tests.gpu.drafters import random_tree, tree_of
from tests.gpu.rules import longest_of_paths, one_coin_twice, path_to

VOCAB_SIZE = 4
DEPTH = 3

Context = tuple[int, ...]
Draw = Callable[[int], int]
Target = Callable[[Context], list[float]]
Deterministic = Callable[[DraftTree, Draw], Verified]
Planned = Callable[[Context], DraftTree]


class MoreDraws(Exception):
    """Not an error: the enumeration must branch over what `node` may draw."""

    def __init__(self, node: int) -> None:
        self.node = node


def toy_target(seed: int) -> Target:
    """A distribution for every context, some of them nearly certain."""
    generator = np.random.default_rng(seed)
    table: dict[Context, list[float]] = {
        context: generator.dirichlet([0.5] * VOCAB_SIZE).tolist()
        for length in range(2 * DEPTH + 1)
        for context in product(range(VOCAB_SIZE), repeat=length)
    }
    return table.__getitem__


def outcomes(
    rule: Deterministic, tree: DraftTree, context: Context, target: Target
) -> Iterator[tuple[Verified, float]]:
    """Every result of one step with its probability; each draw of a rule has a coin of its own."""
    pending: list[tuple[list[int], float]] = [([], 1.0)]
    while pending:
        drawn, probability = pending.pop()
        try:
            yield rule(tree, _scripted(drawn)), probability
        except MoreDraws as asked:
            path = path_to(tree, asked.node)
            here = (*context, *(int(tree.token[node]) for node in path))
            pending.extend(
                ([*drawn, token], probability * p) for token, p in enumerate(target(here))
            )


def _scripted(drawn: list[int]) -> Draw:
    remaining = iter(drawn)

    def draw(node: int) -> int:
        try:
            return next(remaining)
        except StopIteration:
            raise MoreDraws(node) from None

    return draw


def emitted_law(
    rule: Deterministic,
    planned: Planned,
    target: Target,
    length: int = DEPTH,
    context: Context = (),
) -> dict[Context, float]:
    """Probability of each sequence of `length` tokens, decoded step by step with drafts."""
    law: dict[Context, float] = {}
    tree = planned(context)
    for verified, probability in outcomes(rule, tree, context, target):
        longer = (*context, *verified.tokens)
        rest = (
            {longer[:length]: 1.0}
            if len(longer) >= length
            else emitted_law(rule, planned, target, length, longer)
        )
        for tokens, p in rest.items():
            law[tokens] = law.get(tokens, 0.0) + probability * p
    return law


def plain_law(target: Target, length: int = DEPTH) -> dict[Context, float]:
    law: dict[Context, float] = {(): 1.0}
    for _ in range(length):
        law = {
            (*context, token): probability * p
            for context, probability in law.items()
            for token, p in enumerate(target(context))
        }
    return law


def distance(law: dict[Context, float], other: dict[Context, float]) -> float:
    return max(abs(law.get(key, 0.0) - other.get(key, 0.0)) for key in law.keys() | other.keys())


@pytest.mark.parametrize("seed", range(12))
def test_random_trees_leave_the_law_of_the_target_as_it_is(seed: int) -> None:
    target = toy_target(seed)

    def planned(context: Context) -> DraftTree:
        generator = np.random.default_rng([seed, *context])
        tree = random_tree(generator, 7, VOCAB_SIZE)
        shallow = int((tree.depths() < DEPTH).argmin()) or len(tree)
        return tree_of(tree.token[:shallow], tree.parent[:shallow])

    assert distance(emitted_law(match, planned, target), plain_law(target)) < 1e-12


def test_no_tree_is_plain_decoding() -> None:
    target = toy_target(0)
    assert distance(emitted_law(match, lambda _: EMPTY, target), plain_law(target)) < 1e-12


def independent_paths(tree: DraftTree, draw: Draw) -> Verified:
    """REST's rule: a draw is reused within its path, and is a fresh coin in every other."""
    drawn: dict[tuple[int, int], int] = {}

    def own(path: int, node: int) -> int:
        if (path, node) not in drawn:
            drawn[path, node] = draw(node)
        return drawn[path, node]

    return longest_of_paths(tree, own)


@pytest.mark.parametrize(
    ("rule", "tree"),
    [
        (one_coin_twice, tree_of([0, 1, 0, 1], [-1, -1, 0, 1])),
        (independent_paths, tree_of([0, 1, 2], [-1, -1, 0])),
    ],
)
def test_planted_wrong_rules_are_noticed(rule: Deterministic, tree: DraftTree) -> None:
    target = toy_target(1)
    planned: Planned = lambda context: tree if len(context) == 0 else EMPTY  # noqa: E731
    assert distance(emitted_law(match, planned, target), plain_law(target)) < 1e-12
    assert distance(emitted_law(rule, planned, target), plain_law(target)) > 1e-3
