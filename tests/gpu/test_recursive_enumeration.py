"""The law of `recursive`, exactly: every draw of the drafter, every coin and every draw of the target."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from retrieval_draft.gpu.verify import Draws, Rule, Verified, match, recursive
from retrieval_draft.tree import DraftTree
from tests.gpu.drafters import tree_of
from tests.gpu.rules import OtherBonus, kept_coin, not_renormalised, path_to
from tests.gpu.stochastic import drawings, drawn_tree

VOCAB_SIZE = 4
LENGTH = 2
Law = dict[tuple[int, ...], float]
Target = Callable[[tuple[int, ...]], list[float]]


class MoreChoices(Exception):
    """Not an error: the enumeration must branch over these outcomes."""

    def __init__(self, outcomes: list[tuple[int, float]]) -> None:
        self.outcomes = [(outcome, p) for outcome, p in outcomes if p > 0]


class Scripted:
    """Draws whose outcomes are given in advance; asks for more when they are used up."""

    def __init__(self, tree: DraftTree, target: Target, script: list[int]) -> None:
        self._tree, self._target, self.script = tree, target, iter(script)

    def _p(self, node: int) -> list[float]:
        return self._target(tuple(int(self._tree.token[i]) for i in path_to(self._tree, node)))

    def _next(self, outcomes: list[tuple[int, float]]) -> int:
        try:
            return next(self.script)
        except StopIteration:
            raise MoreChoices(outcomes) from None

    def __call__(self, node: int) -> int:
        return self._next(list(enumerate(self._p(node))))

    def chances(self, node: int, tokens: list[int]) -> list[float]:
        return [self._p(node)[token] for token in tokens]

    def accepts(self, node: int, trial: int, chance: float) -> bool:
        return bool(self._next([(1, chance), (0, 1 - chance)]))

    def redraw(self, node: int, tokens: list[int], chances: list[float]) -> int:
        masses = self._p(node).copy()
        for token, chance in zip(tokens, chances, strict=True):
            masses[token] = chance
        return self._next([(token, mass / sum(masses)) for token, mass in enumerate(masses)])


def outcomes(rule: Rule, tree: DraftTree, target: Target) -> Iterator[tuple[Verified, float]]:
    pending: list[tuple[list[int], float]] = [([], 1.0)]
    while pending:
        script, probability = pending.pop()
        try:
            yield rule(tree, Scripted(tree, target, script)), probability
        except MoreChoices as more:
            pending.extend(([*script, o], probability * p) for o, p in more.outcomes)


def law_of(rule: Rule, trees: list[tuple[DraftTree, float]], target: Target) -> Law:
    """Of the first LENGTH tokens; what a step leaves open is decoded plainly."""
    law: Law = {}
    for tree, drawn in trees:
        for verified, p in outcomes(rule, tree, target):
            for rest, more in plain_law(target, LENGTH, verified.tokens[:LENGTH]).items():
                law[rest] = law.get(rest, 0.0) + drawn * p * more
    return law


def plain_law(target: Target, length: int, start: tuple[int, ...] = ()) -> Law:
    law: Law = {start: 1.0}
    for _ in range(length - len(start)):
        law = {(*c, t): p * q for c, p in law.items() for t, q in enumerate(target(c)) if p > 0}
    return law


def distance(law: Law, other: Law) -> float:
    return max(abs(law.get(key, 0.0) - other.get(key, 0.0)) for key in law.keys() | other.keys())


def world(seed: int) -> tuple[Target, list[float]]:
    """A target that depends on the last token, and what children of the root are drawn from."""
    generator = np.random.default_rng(seed)
    table = generator.dirichlet([0.6] * VOCAB_SIZE, VOCAB_SIZE + 1).tolist()
    q = generator.dirichlet([0.8] * VOCAB_SIZE).astype(np.float32)
    q[generator.integers(VOCAB_SIZE)] *= float(seed % 2)  # every other one cannot draw some token
    return (lambda context: table[context[-1] if context else -1]), q.tolist()


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("seed", range(10))
def test_drawn_children_leave_the_law_of_the_target_as_it_is(seed: int, count: int) -> None:
    target, q = world(seed)
    below = tree_of([1, 2], [-1, -1])  # deterministic children, under whatever is drawn first
    trees = [(drawn_tree(order, q, below), p) for order, p in drawings(q, count)]
    assert distance(law_of(recursive, trees, target), plain_law(target, LENGTH)) < 1e-6
    assert distance(law_of(match, trees, target), plain_law(target, LENGTH)) < 1e-6


def test_more_is_kept_than_by_matching_where_the_drafter_draws_as_the_target_does() -> None:
    target, _ = world(3)
    q = singles(target(()))
    trees = [(drawn_tree(order, q), p) for order, p in drawings(q, 1)]

    def kept(rule: Rule) -> float:
        return sum(
            drawn * p * len(verified.path)
            for tree, drawn in trees
            for verified, p in outcomes(rule, tree, target)
        )

    assert kept(recursive) == pytest.approx(1.0)
    assert kept(match) == pytest.approx(sum(p * p for p in q), abs=1e-6)


def singles(shares: list[float]) -> list[float]:
    """As a draft carries them."""
    rounded: list[float] = np.array(shares, np.float32).tolist()
    return rounded


def two_lacking() -> tuple[Target, list[float]]:
    """Two tokens come rarer from the drafter than from the target: a second child may be refused."""
    target, _ = world(5)
    p = [0.4, 0.3, 0.2, 0.1]
    return (lambda context: target(context) if context else p), singles(p[::-1])


def pruned(order: tuple[int, ...]) -> tuple[int, ...]:
    """What is left when a drawn child is thrown away for what it is."""
    return tuple(token for token in order if token != 1)


@pytest.mark.parametrize("rule", [kept_coin, not_renormalised])
def test_planted_wrong_rules_are_noticed(rule: Rule) -> None:
    target, q = two_lacking()
    trees = [(drawn_tree(order, q), p) for order, p in drawings(q, 2)]
    assert distance(law_of(recursive, trees, target), plain_law(target, LENGTH)) < 1e-6
    assert distance(law_of(rule, trees, target), plain_law(target, LENGTH)) > 1e-3


def test_pruning_by_identity_is_noticed() -> None:
    target, q = two_lacking()
    trees = [(drawn_tree(pruned(order), q), p) for order, p in drawings(q, 2)]
    assert distance(law_of(recursive, trees, target), plain_law(target, LENGTH)) > 1e-3


def test_a_bonus_of_other_processors_is_noticed() -> None:
    target, q = two_lacking()

    def filtered(context: tuple[int, ...]) -> list[float]:
        p = target(context)
        kept = [share if share > min(p) else 0.0 for share in p]
        return [share / sum(kept) for share in kept]

    def other_bonus(tree: DraftTree, draws: Draws) -> Verified:
        assert isinstance(draws, Scripted)
        plain = Scripted(tree, target, [])
        plain.script = draws.script
        return recursive(tree, OtherBonus(draws, plain))

    trees = [(drawn_tree(order, q), p) for order, p in drawings(q, 2)]
    assert distance(law_of(recursive, trees, filtered), plain_law(filtered, LENGTH)) < 1e-6
    assert distance(law_of(other_bonus, trees, filtered), plain_law(filtered, LENGTH)) > 1e-3


@pytest.mark.parametrize("shares", [[float("nan")] * 4, [-1.0] * 4, [0.0] * 4])
def test_proposals_that_are_no_distribution_are_verified_by_matching(shares: list[float]) -> None:
    target, _ = world(1)
    tree = drawn_tree((2, 0), [0.25] * VOCAB_SIZE)
    assert tree.proposals is not None
    tree.proposals.probabilities[0] = shares
    law = law_of(recursive, [(tree, 1.0)], target)
    assert distance(law, plain_law(target, LENGTH)) < 1e-6
