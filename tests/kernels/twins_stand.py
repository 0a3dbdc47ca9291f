"""STAND's table, in plain Python: a list of slots, each None or a Gram."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

WIDTH, WINDOW, ONE = 10, 8, 65535

Ints = Sequence[int]
Rows = Sequence[tuple[int, int]]
"""(token, share) pairs."""


@dataclass
class Gram:
    key: int
    visits: int = 0
    credit: int = 0
    row: list[tuple[int, int]] = field(default_factory=list)


Table = list[Gram | None]


def mix(state: int, token: int) -> int:
    h = ((state ^ (token + 1)) * 0x9E3779B97F4A7C15) % 2**64
    return h ^ (h >> 29)


def gram_key(tokens: Ints, stop: int, order: int) -> int:
    state = 0
    for token in reversed(tokens[stop - order : stop]):
        state = mix(state, token)
    return state or 1


def window(table: Table, key: int) -> list[int]:
    return [(key + step) % len(table) for step in range(WINDOW)]


def find(table: Table, key: int) -> int:
    for slot in window(table, key):
        gram = table[slot]
        if gram is None:
            return -1
        if gram.key == key:
            return slot
    return -1


def claim(table: Table, key: int) -> int:
    if (slot := find(table, key)) >= 0:
        return slot
    there = window(table, key)
    slot = next((slot for slot in there if table[slot] is None), -1)
    if slot < 0:
        grams = {slot: gram for slot in there if (gram := table[slot])}
        slot = min(there, key=lambda slot: grams[slot].credit)
        payer = grams[there[key >> 61]]
        payer.credit = max(0, payer.credit - 1)
    table[slot] = Gram(key)
    return slot


def visit(table: Table, key: int, seen: Rows) -> None:
    gram = table[claim(table, key)]
    assert gram
    k = gram.visits
    new: dict[int, int] = {}
    for token, share in seen:
        if token >= 0 and share > 0:
            new[token] = share if token in dict(gram.row) else new.get(token, share)
    old = dict(gram.row)
    means = {token: nearest(Fraction(k * old.get(token, 0) + new.get(token, 0), k + 1))
             for token in [*old, *new]}  # fmt: skip
    best = sorted(means.items(), key=lambda item: -item[1])[:WIDTH]
    gram.row = [(token, share) for token, share in best if share > 0]
    gram.visits, gram.credit = min(64, k + 1), min(15, gram.credit + 1)


def nearest(value: Fraction) -> int:
    return int(value + Fraction(1, 2))


def observe_text(table: Table, text: Ints, first: int, row_of: Ints, rows: Sequence[Rows]) -> None:
    for at in range(max(first, 1), len(text)):
        seen = rows[row_of[at - 1]] if row_of[at - 1] >= 0 else [(text[at], ONE)]
        for order in range(1, min(4, at) + 1):
            visit(table, gram_key(text, at, order), seen)


def observe_rows(table: Table, contexts: Sequence[Ints], rows: Sequence[Rows]) -> None:
    for context, seen in zip(contexts, rows, strict=True):
        known = [i for i in range(4) if min(context[i:]) >= 0]
        for order in range(1, len(known) + 1):
            visit(table, gram_key(context, 4, order), seen)


def move(table: Table, larger: Table) -> None:
    for gram in table:
        if gram:
            larger[claim(larger, gram.key)] = gram


TWINS: dict[str, Callable[..., object]] = {
    "stand.mix": mix,
    "stand.gram_key": gram_key,
    "stand.find": find,
    "stand.claim": claim,
    "stand.visit": visit,
    "stand.observe_text": observe_text,
    "stand.look_ahead": observe_text,
    "stand.observe_rows": observe_rows,
    "stand.move": move,
}
