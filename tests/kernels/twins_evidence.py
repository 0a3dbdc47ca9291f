"""What every source says of the tokens that may follow a node, in plain Python: dicts by token and input."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from retrieval_draft.drafting.kernels import bins
from retrieval_draft.drafting.kernels.bins import BLEND, COMMON, GAPPED, MATCH, ORDER, RECYCLING
from retrieval_draft.drafting.kernels.bins import STAND as EXPECTED
from tests.kernels import twins_ngrams as ngrams

CANDIDATES_MAX, CONTEXT_WEIGHT, BLEND_ORDERS, DOUBT, ESCAPES = 96, 4.0, 4, 2.5, 6
CONTEXT, LEARNED, CORPUS = 0, 1, 2


@dataclass(frozen=True)
class Place:
    position: int
    length: int
    next: int
    gap: int = 0


Places = tuple[list[Place], list[Place], list[Place]]
"""By scope: exact ones first."""


@dataclass
class World:
    """What is read of the tiers; texts by position."""

    context: dict[int, int]
    learned: dict[int, int]
    corpus: dict[int, int]
    context_table: ngrams.Table
    learned_table: ngrams.Table
    successors: list[list[tuple[int, int]]]
    expected: Mapping[tuple[int, ...], tuple[int, list[tuple[int, int]]]]
    """By n-gram, newest token first: visits and (token, share) pairs."""
    common: list[list[int]]
    """[token, count]"""
    common_total: int = 0


@dataclass
class Evidence:
    """What is known of a node's candidates, in the order in which they were met."""

    listed: dict[int, dict[int, int]] = field(default_factory=dict)
    """By token and input: the bin."""
    items: list[tuple[int, int, int]] = field(default_factory=list)
    """(token, input, bin)"""
    absent: dict[int, int] = field(default_factory=dict)
    blend: dict[int, float] = field(default_factory=dict)
    blended: dict[int, tuple[int, int]] = field(default_factory=dict)
    orders: list[int] = field(default_factory=lambda: [0, 0])
    longest: list[int] = field(default_factory=lambda: [0, 0, 0])

    def has_room(self, token: int) -> bool:
        """Whether the token is a candidate, now or already."""
        if token not in self.listed and len(self.listed) == CANDIDATES_MAX:
            return False
        self.listed.setdefault(token, {})
        self.blend.setdefault(token, 0.0)
        return True

    def list_one(self, token: int, index: int, b: int) -> None:
        b += int(bins.OFFSETS[index])
        self.listed[token][index] = b
        self.items.append((token, index, b))

    def says(self, token: int, index: int) -> bool:
        return index in self.listed[token]


def length_class(length: int) -> int:
    return sum(length >= least for least in (2, 3, 4, 5, 6, 7, 8, 9, 13, 17, 25, 33, 49, 64))


def total_class(sightings: int) -> int:
    return sum(sightings > most for most in (1, 2, 4, 8, 16))


def agreement_class(length: int) -> int:
    return sum(length > most for most in (0, 6, 15))


def blend_level(p: float) -> int:
    middle = (min(4096, max(0, int(p * 4096 + 1e-6))) + 0.5) / 4097
    return min(23, max(0, int((math.log(middle / (1 - middle)) + 7) * 24 / 14)))


def stand_bin(share: int, order: int, visits: int) -> int:
    node = (order - 1) * 3 + sum(visits > most for most in (1, 4))
    if share <= 0:
        return 16 * 12 + node
    return min(15, int(-2 * math.log2(share / 65535))) * 12 + node


def exact_places(places: Sequence[Place]) -> list[Place]:
    return list(takewhile(lambda place: place.gap == 0, places))


def list_places(e: Evidence, places: Sequence[Place], scope: int) -> None:
    exact = exact_places(places)
    e.longest[scope] = exact[0].length if exact else 0
    for i, place in enumerate(places):
        index = (GAPPED if place.gap else MATCH) + scope
        if not e.has_room(place.next) or e.says(place.next, index):
            continue
        if place.gap:
            e.list_one(place.next, index, (place.gap - 1) * 8 + min(7, place.length))
            continue
        rank = 0 if i == 0 else 1 if place.length == exact[0].length else 2
        agreeing = sum(other.next == place.next for other in exact)
        share = (agreeing * 5 - 1) // len(exact)
        e.list_one(place.next, index, (length_class(place.length) * 3 + rank) * 5 + share)


def blend_corpus(e: Evidence, places: Sequence[Place]) -> float:
    exact = exact_places(places)
    for place in exact:
        if e.has_room(place.next):
            e.blend[place.next] = e.blend.get(place.next, 0.0) + 1 / (len(exact) + 1)
    return 1 / (len(exact) + 1)


def list_followers(e: Evidence, slot: ngrams.Slot, index: int) -> dict[int, int]:
    """The counts of those that there is room for."""
    size = total_class(slot.total // 2)
    e.absent[index] = int(bins.OFFSETS[index]) + 120 + size
    counts: dict[int, int] = {}
    for i, (token, seen) in enumerate(slot.followers):
        if e.has_room(token):
            share = min(9, seen * 10 // max(1, slot.total))
            e.list_one(token, index, (share * 6 + size) * 2 + (i == slot.newest))
            counts[token] = seen
    return counts


def list_orders(e: Evidence, world: World, tail: Sequence[int]) -> float:
    escape = 1.0
    tables: dict[int, ngrams.Table] = {CONTEXT: world.context_table, LEARNED: world.learned_table}
    for order, length in enumerate(ngrams.ORDERS):
        if length > len(tail):
            break
        state = ngrams.hash_of(tail[:length])
        weight = 0.0
        counts: dict[int, dict[int, int]] = {CONTEXT: {}, LEARNED: {}}
        for tier, table in list(tables.items()):
            slot = ngrams.find(table, state, order)
            if slot is None:
                del tables[tier]
                continue
            e.orders[tier] = order + 1
            counts[tier] = list_followers(e, slot, ORDER + tier * len(ngrams.ORDERS) + order)
            weight += slot.total * (CONTEXT_WEIGHT if tier == CONTEXT else 1)
        if not tables:
            break
        if order < BLEND_ORDERS and weight > 0:
            distinct = len({*counts[CONTEXT], *counts[LEARNED]})
            trust = weight / (weight + DOUBT * distinct)
            escape *= 1 - trust
            for token in e.blend:
                e.blend[token] *= 1 - trust
            for tier, each in ((CONTEXT, CONTEXT_WEIGHT), (LEARNED, 1.0)):
                for token, seen in counts[tier].items():
                    e.blend[token] += trust / weight * each * seen
    return escape


def list_recycled(e: Evidence, world: World, tail: Sequence[int]) -> None:
    if not tail or tail[0] >= len(world.successors):
        return
    for rank, (token, packed) in enumerate(world.successors[tail[0]]):
        if not 0 <= token < len(world.successors):
            return
        if e.has_room(token) and not e.says(token, RECYCLING):
            e.list_one(token, RECYCLING, rank * 9 + (8 if packed == 255 else min(7, packed // 8)))


def list_expected(e: Evidence, world: World, tail: Sequence[int]) -> None:
    known = [n for n in range(1, 5) if n <= len(tail) and tuple(tail[:n]) in world.expected]
    if not known:
        return
    visits, row = world.expected[tuple(tail[: known[-1]])]
    e.absent[EXPECTED] = int(bins.OFFSETS[EXPECTED]) + stand_bin(0, known[-1], visits)
    for token, share in row:
        if not 0 <= token < len(world.successors):
            return
        if e.has_room(token) and not e.says(token, EXPECTED):
            e.list_one(token, EXPECTED, stand_bin(max(1, share), known[-1], visits))


def list_common(e: Evidence, world: World, escape: float, floor: float) -> None:
    level = max(0, min(ESCAPES - 1, int(-math.log2(escape + 1e-9))))
    for rank, (token, seen) in enumerate(world.common[:24]):
        p = escape * seen / max(1, world.common_total)
        if p < floor or not e.has_room(token):
            return
        e.blend[token] += p
        e.list_one(token, COMMON, rank * ESCAPES + level)


def gather(world: World, places: Places, tail: Sequence[int], floor: float) -> Evidence:
    e = Evidence()
    for scope in range(3):
        list_places(e, places[scope], scope)
    escape = blend_corpus(e, places[CORPUS]) * list_orders(e, world, tail)
    list_recycled(e, world, tail)
    list_expected(e, world, tail)
    list_common(e, world, escape, floor)
    agreed = agreement_class(e.longest[CONTEXT]) * 4 + agreement_class(e.longest[LEARNED])
    for token, p in e.blend.items():
        matched = e.says(token, MATCH + CONTEXT) + 2 * e.says(token, MATCH + LEARNED)
        level = blend_level(p) * 16
        first, second = int(bins.OFFSETS[BLEND]), int(bins.OFFSETS[BLEND + 1])
        e.blended[token] = (first + level + agreed, second + level + matched)
    return e


TWINS: dict[str, Callable[..., object]] = {
    "bins.length_class": length_class,
    "bins.total_class": total_class,
    "bins.agreement_class": agreement_class,
    "bins.blend_level": blend_level,
    "bins.stand_bin": stand_bin,
    "evidence.candidate": Evidence.has_room,
    "evidence.list_one": Evidence.list_one,
    "gathering.exact_places": exact_places,
    "gathering.list_places": list_places,
    "gathering.blend_corpus": blend_corpus,
    "orders.list_followers": list_followers,
    "orders.add_shares": list_orders,
    "orders.list_orders": list_orders,
    "orders.look_ahead": list_orders,
    "gathering.list_recycled": list_recycled,
    "gathering.list_expected": list_expected,
    "gathering.list_common": list_common,
    "gathering.gather": gather,
}
