"""Best-first growth in plain Python: one sorted list of candidates over the twins of evidence and mixing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from retrieval_draft.drafting.kernels.bins import (
    COMMON,
    CORPUS,
    GAPPED,
    INPUTS,
    MATCH,
    ORDER,
    RECYCLING,
    STAND,
)  # fmt: skip
from retrieval_draft.drafting.kernels.mixing import SQUASH_RANGE, SQUASH_STEPS
from retrieval_draft.tree import SOURCES, TIERS
from tests.kernels import twins_matching as matching
from tests.kernels.twins_evidence import Places, World, gather
from tests.kernels.twins_mixing import Skill, mix, squash

ORDER_COUNT, TAIL = 5, 24


@dataclass(frozen=True)
class Node:
    probability: float
    token: int
    parent: int
    listed: frozenset[int]


def names_of(index: int) -> tuple[str, str]:
    """The tier and the kind of source of an input."""
    tiers = ("context", "learned", "corpus")
    for first in (MATCH, GAPPED):
        if first <= index < first + 3:
            scope = index - first
            return tiers[scope], "corpus" if scope == CORPUS else "match"
    if ORDER <= index < ORDER + 2 * ORDER_COUNT:
        tier, order = divmod(index - ORDER, ORDER_COUNT)
        return tiers[tier], f"order{min(order, 3) + 1}"
    return "learned", {RECYCLING: "recycling", STAND: "stand", COMMON: "order0"}[index]


def sources_of(listed: frozenset[int]) -> int:
    bits = {bit for i in listed for bit in (TIERS[names_of(i)[0]], SOURCES[names_of(i)[1]])}
    return sum(1 << bit for bit in bits)


class OnEdge(Exception):
    """Rounding decides into which step of the logistic's table a logit falls, and so who comes first."""


def on_edge(logit: float) -> bool:
    step = (logit + SQUASH_RANGE) * SQUASH_STEPS / (2 * SQUASH_RANGE)
    return abs(step - round(step)) < 1e-3


def offer(
    waiting: list[Node], logits: dict[int, float], listed: dict[int, frozenset[int]], node: int,
    probability: float, room: int, children_max: int,
) -> list[Node]:  # fmt: skip
    """The best of those that wait and of the node's best children; of equals those that waited longer."""
    if any(on_edge(x) for x in logits.values()):
        raise OnEdge
    shares = {token: squash(x) for token, x in logits.items()}
    scale = probability / max(1.0, sum(shares.values()))
    children = [Node(scale * share, t, node, listed[t]) for t, share in shares.items()]
    children = sorted(children, key=lambda child: -child.probability)[:children_max]
    return sorted([*waiting, *children], key=lambda one: -one.probability)[:room]


def hope_of(listed: frozenset[int]) -> float:
    """The later a class stands in the list, the more its best children had."""
    if listed & {MATCH, MATCH + 1, MATCH + 2}:
        return 0.72
    orders = [i for i in listed if ORDER <= i < ORDER + 2 * ORDER_COUNT]
    highest = max(((i - ORDER) % ORDER_COUNT + 1 for i in orders), default=0)
    return [0.12, 0.27, 0.32, 0.39, 0.44, 0.56][highest]


def hope(hopes: list[tuple[float, int]], node: int, worth: float) -> list[tuple[float, int]]:
    """Of equals those that waited longer come first."""
    return sorted([*hopes, (worth, node)], key=lambda pair: -pair[0])


def drop(waiting: list[Node], at: int) -> list[Node]:
    return waiting[:at] + waiting[at + 1 :]


def grow(
    world: World,
    skill: Skill,
    places: Places,
    tail: Sequence[int],
    context_stop: int,
    nodes_max: int,
    depth_max: int,
    children_max: int,
    chain: bool,
    floor: float,
    end_tokens: Sequence[int],
) -> list[Node]:
    grown: list[Node] = []
    lines: list[tuple[list[int], Places]] = [([], places)]
    waiting: list[Node] = []
    hopes = [(1.0, 0)] if depth_max > 0 else []
    while len(grown) < nodes_max:
        best = waiting[0].probability if waiting else 0.0
        room = nodes_max - len(grown)
        if hopes and hopes[0][0] >= best:
            worth, at = hopes.pop(0)
            if worth < floor:
                break
            path, here = lines[at]
            p = grown[at - 1].probability if at else 1.0
            known = [*reversed(path), *tail][:TAIL]
            # A common token that is less likely than all that wait could not be taken.
            least = waiting[-1].probability / p if len(waiting) == room else 0.0
            e = gather(world, here, known, least)
            listed = {token: frozenset(some) for token, some in e.listed.items()}
            most = 1 if chain else children_max
            waiting = offer(waiting, mix(e, skill), listed, at - 1, p, room, most)
            continue
        if not waiting or best < floor:
            break
        taken = waiting.pop(0)
        path, here = lines[taken.parent + 1]
        path = [*path, taken.token]
        lines.append((path, matching.move(world, here, taken.token, path, context_stop)))
        grown.append(taken)
        worth = best * hope_of(taken.listed)
        full = len(waiting) == nodes_max - len(grown)
        beyond = full and waiting and worth <= waiting[-1].probability
        if len(path) < depth_max and taken.token not in end_tokens and not beyond:
            hopes = hope(hopes, len(grown), worth)
    return grown


ALL_INPUTS = [i for i in range(INPUTS) if i not in (STAND - 2, STAND - 3)]
"""Those that list candidates: the blend only weighs them."""

TWINS: dict[str, Callable[..., object]] = {
    "frontier.sources_of": sources_of,
    "frontier.offer": offer,
    "frontier.drop": drop,
    "frontier.hope": hope,
    "frontier.hope_of": hope_of,
    "growth.grow_within": grow,
    "growth.grow": grow,
}
