"""What a draft model's time is worth: costs, what its shares and its trees have been worth, decisions."""

from collections.abc import Callable

import numpy as np
import pytest

from retrieval_draft.drafter import Opening
from retrieval_draft.gpu.draft_models.causal import CausalDrafts
from retrieval_draft.gpu.draft_models.level_cost import (
    OPENING,
    LevelCosts,
    measure_level_costs,
)
from retrieval_draft.gpu.draft_models.levels import Frontier
from retrieval_draft.gpu.draft_models.pricing import LOOK_STEPS_MAX, READ_STEPS, Pricing
from retrieval_draft.gpu.draft_models.rescues import Cover, Rescues
from retrieval_draft.gpu.draft_models.shares import Shares
from retrieval_draft.gpu.step_cost import BatchCost, StepCosts
from retrieval_draft.gpu.width import best_width, first_nodes
from retrieval_draft.step import VerifyCost
from retrieval_draft.tree import EMPTY, DraftTree, Proposals, int32s
from tests.gpu.models import tiny

GREEDY = Opening({**OPENING, "temperature": 0.0})


def tree_of(tokens: list[int], parents: list[int], worth: list[float]) -> DraftTree:
    return DraftTree(int32s(tokens), int32s(parents), np.array(worth, np.float32))


def chain_of(tokens: list[int], share: float) -> DraftTree:
    worth = [share ** (i + 1) for i in range(len(tokens))]
    return tree_of(tokens, list(range(-1, len(tokens) - 1)), worth)


# What was measured.


def test_a_level_costs_something_and_a_deeper_tree_more() -> None:
    model = CausalDrafts(tiny("llama"), slots=4, length_max=64, depth_max=3, children_max=2)
    costs = measure_level_costs(model, 4, seconds_max=0)
    assert costs.batches == (1, 4)
    assert costs.milliseconds.shape == (2, 4)
    assert (costs.milliseconds[:, 0] == 0).all()
    assert (costs.milliseconds[:, 1] > 0).all()
    assert (np.diff(costs.milliseconds, axis=1) >= 0).all()
    assert costs.token_ms >= 0
    model.open("s", int32s([5, 6]), **GREEDY)
    assert len(model.draft({"s": 4})["s"]), "nothing that was measured is left open"


@pytest.mark.parametrize("length_max", [2, 4, 40])
def test_short_slots_are_measured_too(length_max: int) -> None:
    model = CausalDrafts(tiny("llama"), slots=1, length_max=length_max, depth_max=3)
    costs = measure_level_costs(model, 1, seconds_max=0)
    assert costs.milliseconds.shape == (1, 4)
    assert costs.milliseconds[0, 3] > 0


def test_level_costs_go_on_in_straight_lines() -> None:
    costs = LevelCosts((1, 4), np.array([[0, 2, 4], [0, 5, 10]], np.float64), 0.1)
    assert costs.at(1).tolist() == [0, 2, 4]
    assert costs.at(2).tolist() == [0, 3, 6]
    assert costs.at(8).tolist() == [0, 10, 20]


# What is learned.


def test_shares_are_worth_what_they_said_until_more_was_seen() -> None:
    shares = Shares()
    said = np.log(np.array([[0.6, 0.2, 0.05]]))
    greedy = np.array([0])
    assert shares.worth(said, greedy) == pytest.approx(said)
    for _ in range(200):
        shares.teach(0, said[0], 0)
    first, second, third = np.exp(shares.worth(said, greedy))[0]
    assert first > 0.97, "it has always followed"
    assert second < 0.02
    assert third < 0.05
    assert shares.worth(said, np.array([1])) == pytest.approx(said), "sampled targets are others"
    for _ in range(600):
        shares.teach(0, said[0], 1)
    assert np.exp(shares.worth(said, greedy))[0, 1] > 0.85, "it follows what changes"


def test_a_model_that_was_wrong_is_believed_less() -> None:
    """The shares are taught by what is committed, down the path that it takes."""
    shares = Shares()
    model = CausalDrafts(tiny("llama"), slots=1, length_max=400, depth_max=2, shares=shares)
    model.open("s", int32s([5, 6, 7]), **GREEDY)
    before = float(model.draft({"s": 4})["s"].probability[0])
    for _ in range(30):
        tree = model.draft({"s": 16})["s"]
        never = next(token for token in range(60) if token not in tree.token)
        model.commit("s", int32s([never]), -1, None)
    assert float(model.draft({"s": 4})["s"].probability[0]) < before / 2


def test_a_cover_says_what_share_of_the_next_token_is_listed() -> None:
    cover = Cover(tree_of([3, 4, 5, 6], [-1, -1, 0, 2], [0.5, 0.25, 0.4, 0.4]))
    assert cover.along([]) == pytest.approx(0.75)
    assert cover.along([3]) == pytest.approx(0.8)
    assert cover.along([3, 5]) == pytest.approx(1.0)
    assert cover.along([4]) == cover.along([9]) == cover.along([9, 3]) == 0


def test_the_chance_of_a_rescue_is_learned_by_what_retrieval_covers() -> None:
    rescues = Rescues()
    assert rescues.chance(0.0) > rescues.chance(0.5) > rescues.chance(1.0)
    model, sure = chain_of([3, 4], 0.9), chain_of([3], 0.99)
    for _ in range(100):
        # Where retrieval is sure it is right; behind its end the model is.
        rescues.teach(Cover(model), Cover(sure), [3, 4, 9])
    assert rescues.chance(0.99) < 0.05
    assert rescues.chance(0.0) > 0.9
    for _ in range(100):
        rescues.teach(Cover(model), Cover(EMPTY), [7])
    assert rescues.chance(0.0) < 0.6


# The width.


def test_nodes_are_free_up_to_the_largest_tree() -> None:
    cost = VerifyCost(int32s([0, 4]), np.array([10, 18], np.float32))
    # A node costs 2 ms: alone it must bring a fifth of a token.
    assert best_width([chain_of([1, 2, 3, 4], 0.3)], 1, cost) == 1
    assert best_width([chain_of([1, 2, 3, 4], 0.95)], 1, cost) == 4
    # Of eight sequences one knows a long way: all would pay for it.
    one = [chain_of([1, 2, 3, 4], 0.95), *[EMPTY] * 7]
    assert best_width(one, 8, cost) == 0
    assert best_width([chain_of([1, 2, 3, 4], 0.95)] * 8, 8, cost) == 4
    # What is spent anyway makes more worth verifying.
    assert best_width([chain_of([1, 2, 3, 4], 0.3)], 1, cost, spent_ms=100) > 1
    assert best_width([], 1, cost) == 0


def test_drawn_trees_are_not_cut_by_what_was_drawn() -> None:
    cost = VerifyCost(int32s([0, 4]), np.array([10, 1000], np.float32))
    proposals = Proposals(int32s([-1]), int32s([[1]]), np.ones((1, 1), np.float32))
    drawn = DraftTree(int32s([1]), int32s([-1]), np.full(1, 0.1, np.float32), proposals=proposals)
    assert best_width([drawn], 1, cost) == 1


def test_the_first_nodes_keep_their_numbers() -> None:
    tree = tree_of([3, 4, 5], [-1, 0, -1], [0.5, 0.4, 0.1])
    assert first_nodes(tree, 2).parent.tolist() == [-1, 0]
    assert first_nodes(tree, 3) is tree


# Decisions. A plain step takes 10 ms, a node 0.1.


def pricing(level_ms: float, levels: int = 4, clock: Callable[[], float] = lambda: 0.0) -> Pricing:
    nodes = int32s([0, 16])
    batch = BatchCost(1, nodes, np.array([10, 11.6], np.float32))
    costs = StepCosts((batch,), 100, np.zeros(2, np.float32))
    by_level = level_ms * np.arange(levels + 1, dtype=np.float64)
    return Pricing(costs, LevelCosts((1,), by_level[None], 0.0), clock)


Deepens = Callable[[int], list[Frontier]]


def sure(depth: int) -> list[Frontier]:
    return [(0.9**depth, list(range(depth)))]


def run(
    price: Pricing,
    follows: Callable[[int], bool] = lambda step: True,
    retrieved: DraftTree = EMPTY,
    steps: int = 1,
    frontier: Deepens = sure,
) -> list[int]:
    """Levels that the model grew in every step; its chain is right where `follows` says so."""
    grown = []
    price.open("s", 10)
    for step in range(steps):
        price.begin(["s"])
        levels = 0
        if price.asked({"s": 1}, lambda: {"s": retrieved}):
            levels = 1
            while levels < 4 and price.goes_on(
                levels, {"s": frontier(levels)}, lambda: {"s": retrieved}
            ):
                levels += 1
        model = chain_of(list(range(levels)), 0.9)
        trees = {"s": model if len(model) > len(retrieved) else retrieved}
        width = price.verifies(trees, {"s": model}, {"s": retrieved}, 0.0)
        right = list(range(width)) if follows(step) else []
        price.gained("s", [*right, 99])
        grown.append(levels)
    return grown


def test_a_cheap_model_is_asked_and_its_trees_grow_deep() -> None:
    assert run(pricing(0.5), steps=20)[1:] == [4] * 19


def test_a_model_dearer_than_what_it_brings_is_left_out_but_looked_at() -> None:
    grown = run(pricing(12.0), steps=12 * READ_STEPS)
    assert max(grown) == 1, "to look takes one level"
    looks = np.flatnonzero(grown)
    assert 2 <= len(looks) <= 12
    assert sum(grown) * 12.0 < 0.03 * 10 * len(grown), "and a small share of the time"


def test_what_costs_more_than_any_look_is_worth_is_looked_at_nevertheless() -> None:
    grown = run(pricing(1e4), steps=2 * LOOK_STEPS_MAX + 2)
    assert sum(grown) == 2


def test_trees_grow_no_deeper_than_a_level_pays() -> None:
    # A level costs 3 ms at a tenth of a token each: paths of less than that are not followed.
    def fades(depth: int) -> list[Frontier]:
        return [(0.6**depth, list(range(depth)))]

    assert set(run(pricing(3.0), frontier=fades, steps=5)) == {2}
    assert set(run(pricing(0.2), frontier=fades, steps=5)) == {4}


def test_where_retrieval_is_sure_the_model_is_not_asked() -> None:
    certain = chain_of([0, 1, 2, 3, 4, 5], 0.999)
    assert sum(run(pricing(3.0), retrieved=certain, steps=10)) == 0
    assert sum(run(pricing(3.0), steps=10)) > 0


def test_a_model_that_promises_and_does_not_keep_is_left_out() -> None:
    price = pricing(3.0)
    grown = run(price, follows=lambda step: False, steps=10 * READ_STEPS)
    assert grown[0] > 0
    assert sum(level > 0 for level in grown[READ_STEPS:]) <= len(grown) / 10
    back = run(price, steps=40 * READ_STEPS)
    assert min(back[-8:]) > 0, "nothing is switched off for good"


def test_a_model_that_takes_longer_than_was_measured_costs_what_it_takes() -> None:
    """A level of 3 ms takes 12, and brings a token where a plain step takes 10."""

    def drafts(clock: Callable[[], float]) -> int:
        price, asked = pricing(3.0, clock=clock), 0
        price.open("s", 10)
        for _ in range(100):
            price.begin(["s"])
            if price.asked({"s": 1}, dict):
                asked += 1
                price.timed(dict)
                price.verifies({"s": chain_of([5], 0.9)}, {"s": chain_of([5], 0.9)}, {}, 0.0)
                price.gained("s", [5, 6])
            else:
                price.gained("s", [5])
        return asked

    assert drafts(lambda: 0.0) == 100
    slow = iter(np.arange(0.0, 100.0, 0.012).tolist())
    assert drafts(lambda: next(slow)) < 60


def test_without_an_answer_yet_the_usual_cover_is_assumed() -> None:
    price = pricing(1.0)
    price.open("s", 10)
    price.begin(["s"])
    assert price.asked({"s": 1}, lambda: None) == ["s"]


def test_a_look_takes_the_sequence_that_needs_least_reading() -> None:
    price = pricing(12.0)
    run(price, steps=3 * READ_STEPS)
    price.open("t", 10)
    names: list[str] = []
    for _ in range(LOOK_STEPS_MAX):
        price.begin(["s", "t"])
        names = price.asked({"s": 40, "t": 3}, dict)
        price.gained("s", [1])
        price.gained("t", [1])
        if names:
            break
    assert names == ["t"]
    assert not price.goes_on(1, {"t": sure(1)}, dict)
