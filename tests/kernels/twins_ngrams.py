"""N-gram tables in plain Python: windows of slots, each None or a Slot; tokens are a mapping by position."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

ORDERS = (1, 2, 3, 4, 6)
WIDE_ORDERS, WIDE_FOLLOWERS, NARROW_FOLLOWERS, NARROW_SHARE = 2, 7, 3, 4
PROBES, SIGHTING, WEAK, COUNT_MAX, REFERENCE_MAX = 4, 2, 4, 60_000, 15


@dataclass
class Slot:
    check: int
    total: int = 0
    newest: int = 0
    reference: int = 0
    followers: list[list[int]] = field(default_factory=list)
    """[token, count]"""


@dataclass
class Table:
    buckets: int
    wide: list[Slot | None] = field(default_factory=list)
    narrow: list[Slot | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.wide = self.wide or [None] * self.buckets
        self.narrow = self.narrow or [None] * (self.buckets * NARROW_SHARE)


def hash_of(newest_first: Sequence[int]) -> int:
    state = 0
    for token in newest_first:
        state = ((state ^ (token + 1)) * 0x9E3779B97F4A7C15) % 2**64
        state ^= state >> 29
    return state


def check_of(state: int, order: int) -> int:
    return (((state ^ order) * 0xD6E8FEB86659FD93) % 2**64) >> 33 | 1


def window_of(table: Table, state: int, order: int) -> tuple[list[Slot | None], range]:
    """The slots of this order's part, and which of them are the window."""
    slots = table.wide if order < WIDE_ORDERS else table.narrow
    first = state % len(slots) // PROBES * PROBES
    return slots, range(first, first + PROBES)


def find(table: Table, state: int, order: int) -> Slot | None:
    slots, there = window_of(table, state, order)
    check = check_of(state, order)
    return next((slot for i in there if (slot := slots[i]) and slot.check == check), None)


def claim(table: Table, state: int, order: int) -> Slot:
    """The context's slot; in a full window the least referenced one gives way, and all lose a reference."""
    if slot := find(table, state, order):
        return slot
    slots, there = window_of(table, state, order)
    at = next((i for i in there if slots[i] is None), -1)
    if at < 0:
        full = {i: slot for i in there if (slot := slots[i])}
        at = min(there, key=lambda i: full[i].reference)
        for slot in full.values():
            slot.reference = max(0, slot.reference - 1)
    made = Slot(check_of(state, order))
    slots[at] = made
    return made


def see(table: Table, state: int, order: int, token: int) -> None:
    slot = claim(table, state, order)
    slot.reference = min(REFERENCE_MAX, slot.reference + 1)
    room = WIDE_FOLLOWERS if order < WIDE_ORDERS else NARROW_FOLLOWERS
    known = [follower for follower, _ in slot.followers]
    slot.total += SIGHTING
    if token not in known and len(known) == room:
        weakest = min(range(room), key=lambda i: slot.followers[i][1])
        for follower in slot.followers:
            follower[1] = max(0, follower[1] - 1)
        if slot.followers[weakest][1] <= WEAK:
            slot.followers[weakest] = [token, 0]
            known[weakest] = token
    elif token not in known:
        slot.followers.append([token, 0])
        known.append(token)
    if token in known:
        slot.newest = known.index(token)
        slot.followers[slot.newest][1] += SIGHTING
    if slot.total >= COUNT_MAX:
        slot.total //= 2
        for follower in slot.followers:
            follower[1] //= 2


def unsee(table: Table, state: int, order: int, token: int) -> None:
    slot = find(table, state, order)
    for follower in slot.followers if slot else []:
        if slot and follower[0] == token and follower[1] >= SIGHTING:
            follower[1] -= SIGHTING
            slot.total -= SIGHTING if slot.total >= SIGHTING else 0


def contexts_before(tokens: Mapping[int, int], at: int) -> list[tuple[int, list[int]]]:
    """(order, tokens newest first) of all contexts of position `at`, as far as tokens reach back."""
    reach = 0
    while tokens.get(at - 1 - reach, -1) >= 0:
        reach += 1
    return [
        (order, [tokens[at - 1 - k] for k in range(length)])
        for order, length in enumerate(ORDERS)
        if length <= reach
    ]


def count(
    tokens: Mapping[int, int], table: Table, start: int, stop: int, back: bool = False
) -> None:
    for at in range(start, stop):
        if tokens[at] >= 0:
            for order, context in contexts_before(tokens, at):
                (unsee if back else see)(table, hash_of(context), order, tokens[at])


TWINS: dict[str, Callable[..., object]] = {
    "ngrams.check_of": check_of,
    "windows.entry_of": window_of,
    "windows.window_of": window_of,
    "windows.take_window": window_of,
    "windows.first_wide": Table,
    "windows.spread": Table,
    "windows.fold": Table,
    "ngrams.find_in": find,
    "ngrams.find": find,
    "ngrams.see": see,
    "ngrams.unsee": unsee,
    "ngrams.count": count,
    "ngrams.look_ahead": count,
}
