"""Kernels of STAND's table: n-gram -> the target's ten likeliest next tokens with mean probabilities.

Open addressing over a power of two of slots: an n-gram lies within WINDOW slots of where its hash says,
and no slot becomes free again, so that a search ends at the first free one. Integers only: replicas that
applied the same records hold the same bytes. Searches may run beside the one writer; a torn row costs a
bad draft, and ids are checked by who reads them.
"""

import numpy as np
import numpy.typing as npt
from numba import int64, njit, types, uint64

from retrieval_draft.store.kernels.ahead import ahead
from retrieval_draft.store.kernels.leaf import leaf
from retrieval_draft.tree import Int32Array

ORDER_MAX = 4
WIDTH = 10
WINDOW = 8
VISITS_MAX = 64
CREDIT_MAX = 15
ONE = 65535
"""The probability 1."""
AHEAD = 2
"""Tokens between fetching slots and visiting them."""

UInt8Array = npt.NDArray[np.uint8]
UInt16Array = npt.NDArray[np.uint16]
UInt64Array = npt.NDArray[np.uint64]

keys_t = types.Array(types.uint64, 1, "C")
bytes_t = types.Array(types.uint8, 1, "C")
table_t = types.Array(types.int32, 2, "C")
shares_t = types.Array(types.uint16, 2, "C")
row_t = types.Array(types.int32, 1, "C")
share_row_t = types.Array(types.uint16, 1, "C")
read_row_t = types.Array(types.int32, 1, "C", readonly=True)
read_table_t = types.Array(types.int32, 2, "C", readonly=True)
read_shares_t = types.Array(types.uint16, 2, "C", readonly=True)


@leaf(uint64(uint64, int64))
def mix(state: np.uint64, token: int) -> np.uint64:
    """One round of a multiply-xorshift hash, as in the ring."""
    h = (np.uint64(state) ^ (np.uint64(token) + np.uint64(1))) * np.uint64(0x9E3779B97F4A7C15)
    return h ^ (h >> np.uint64(29))


@leaf(uint64(read_row_t, int64, int64))
def gram_key(tokens: Int32Array, stop: int, order: int) -> np.uint64:
    """The key of the `order` tokens before `stop`; never 0, which marks a free slot."""
    state = np.uint64(0)
    for back in range(order):
        state = mix(state, tokens[stop - 1 - back])
    return state if state != np.uint64(0) else np.uint64(1)


@leaf(int64(keys_t, uint64))
def find(keys: UInt64Array, key: np.uint64) -> int:
    """The slot of this key, or -1."""
    mask = np.uint64(len(keys) - 1)
    for step in range(WINDOW):
        slot = int(np.int64((key + np.uint64(step)) & mask))
        if keys[slot] == key:
            return slot
        if keys[slot] == np.uint64(0):
            return -1
    return -1


@leaf(int64(keys_t, bytes_t, bytes_t, table_t, shares_t, uint64))
def claim(
    keys: UInt64Array,
    visits: UInt8Array,
    credit: UInt8Array,
    tokens: Int32Array,
    shares: UInt16Array,
    key: np.uint64,
) -> int:
    """The slot of this key, taken for it if it had none.

    In a full window the slot with the least credit gives way, the first of equals, and one slot that the
    key chooses pays a credit: what is not visited again as often as the table turns over leaves in the end
    (CLOCK within the window, its hand set by the key).
    """
    mask = np.uint64(len(keys) - 1)
    victim = -1
    for step in range(WINDOW):
        slot = int(np.int64((key + np.uint64(step)) & mask))
        if keys[slot] == key:
            return slot
        if keys[slot] == np.uint64(0):
            victim = slot
            break
        if victim < 0 or credit[slot] < credit[victim]:
            victim = slot
    if keys[victim] != np.uint64(0):
        chosen = (key >> np.uint64(61)) + key
        slot = int(np.int64(chosen & mask))
        if credit[slot] > 0:
            credit[slot] -= 1
    # A reader that comes between finds the new key without tokens.
    tokens[victim, :] = -1
    shares[victim, :] = 0
    visits[victim] = 0
    credit[victim] = 0
    keys[victim] = key
    return victim


@leaf(
    types.void(
        keys_t, bytes_t, bytes_t, table_t, shares_t, uint64, row_t, share_row_t, row_t, share_row_t
    )
)  # fmt: skip
def visit(
    keys: UInt64Array,
    visits: UInt8Array,
    credit: UInt8Array,
    tokens: Int32Array,
    shares: UInt16Array,
    key: np.uint64,
    seen: Int32Array,
    seen_shares: UInt16Array,
    merged: Int32Array,
    merged_shares: UInt16Array,
) -> None:
    """One more observation of this n-gram: p = k/(k+1) p + 1/(k+1) seen, and the best WIDTH stay.

    `seen` int32[WIDTH] holds tokens, -1 for none; what either side lacks counts as 0. Ties go to what
    was known longer. `merged` and `merged_shares` [2 * WIDTH] are scratch.
    """
    slot = claim(keys, visits, credit, tokens, shares, key)
    k = int(visits[slot])
    alone = tokens[slot, 1] < 0 and seen[1] < 0 and seen_shares[0] == ONE
    if alone and tokens[slot, 0] == seen[0] and shares[slot, 0] == ONE:
        # Always this token: the usual case of text without predictions, and the mean stays.
        visits[slot] = min(VISITS_MAX, k + 1)
        credit[slot] = min(CREDIT_MAX, int(credit[slot]) + 1)
        return
    count = 0
    for i in range(WIDTH):
        if tokens[slot, i] >= 0:
            merged[count] = tokens[slot, i]
            # Rounded to the nearest, halves up.
            merged_shares[count] = (k * int(shares[slot, i]) * 2 + k + 1) // (2 * (k + 1))
            count += 1
    known = count
    for j in range(WIDTH):
        if seen[j] < 0 or seen_shares[j] == 0:
            continue
        at = -1
        for i in range(count):
            if merged[i] == seen[j]:
                at = i
                break
        if at < 0:
            merged[count] = seen[j]
            merged_shares[count] = (int(seen_shares[j]) * 2 + k + 1) // (2 * (k + 1))
            count += 1
        elif at < known:
            total = k * int(shares[slot, at]) + int(seen_shares[j])
            merged_shares[at] = (total * 2 + k + 1) // (2 * (k + 1))
    # Insertion sort: short, nearly sorted, and stable.
    for i in range(1, count):
        token, share = merged[i], merged_shares[i]
        at = i
        while at > 0 and merged_shares[at - 1] < share:
            merged[at], merged_shares[at] = merged[at - 1], merged_shares[at - 1]
            at -= 1
        merged[at], merged_shares[at] = token, share
    for i in range(WIDTH):
        if i < count and merged_shares[i] > 0:
            tokens[slot, i] = merged[i]
            shares[slot, i] = merged_shares[i]
        else:
            tokens[slot, i] = -1
            shares[slot, i] = 0
    visits[slot] = min(VISITS_MAX, k + 1)
    credit[slot] = min(CREDIT_MAX, int(credit[slot]) + 1)


@leaf(types.void(keys_t, bytes_t, bytes_t, table_t, shares_t, read_row_t, int64))
def look_ahead(
    keys: UInt64Array,
    visits: UInt8Array,
    credit: UInt8Array,
    tokens: Int32Array,
    shares: UInt16Array,
    text: Int32Array,
    stop: int,
) -> None:
    """Fetch the slots where the 1- to 4-grams before text[stop] should stand."""
    mask = np.uint64(len(keys) - 1)
    state = np.uint64(0)
    for order in range(1, min(ORDER_MAX, stop) + 1):
        state = mix(state, text[stop - order])
        slot = int(np.int64(state & mask))
        ahead(keys, slot)
        ahead(visits, slot)
        ahead(credit, slot)
        ahead(tokens, slot * WIDTH)
        ahead(tokens, slot * WIDTH + WIDTH)
        ahead(shares, slot * WIDTH)


@njit(
    types.void(
        keys_t, bytes_t, bytes_t, table_t, shares_t, read_row_t, int64, read_row_t, read_table_t,
        read_shares_t,
    ),
    nogil=True,
    cache=True,
)  # fmt: skip
def observe_text(
    keys: UInt64Array,
    visits: UInt8Array,
    credit: UInt8Array,
    tokens: Int32Array,
    shares: UInt16Array,
    text: Int32Array,
    first: int,
    row_of: Int32Array,
    rows: Int32Array,
    row_shares: UInt16Array,
) -> None:
    """Visit the 1- to 4-grams before text[first:], each with what the target expected after them.

    row_of int32[len(text)] names the row for what follows text[i]; where it is -1, text[i + 1] itself is
    what is known of the target, with probability 1.
    """
    seen, seen_shares = np.empty(WIDTH, np.int32), np.empty(WIDTH, np.uint16)
    merged, merged_shares = np.empty(2 * WIDTH, np.int32), np.empty(2 * WIDTH, np.uint16)
    for at in range(max(first, 1), len(text)):
        look_ahead(keys, visits, credit, tokens, shares, text, min(at + AHEAD, len(text) - 1))
        row = row_of[at - 1]
        if row >= 0:
            seen[:] = rows[row]
            seen_shares[:] = row_shares[row]
        else:
            seen[:] = -1
            seen_shares[:] = 0
            seen[0] = text[at]
            seen_shares[0] = ONE
        for order in range(1, min(ORDER_MAX, at) + 1):
            visit(
                keys, visits, credit, tokens, shares, gram_key(text, at, order),
                seen, seen_shares, merged, merged_shares,
            )  # fmt: skip


@njit(
    types.void(
        keys_t, bytes_t, bytes_t, table_t, shares_t, read_table_t, read_table_t, read_shares_t
    ),
    nogil=True,
    cache=True,
)
def observe_rows(
    keys: UInt64Array,
    visits: UInt8Array,
    credit: UInt8Array,
    tokens: Int32Array,
    shares: UInt16Array,
    contexts: Int32Array,
    rows: Int32Array,
    row_shares: UInt16Array,
) -> None:
    """Visit the grams at the end of every context int32[r, ORDER_MAX], filled up with -1 in front."""
    seen, seen_shares = np.empty(WIDTH, np.int32), np.empty(WIDTH, np.uint16)
    merged, merged_shares = np.empty(2 * WIDTH, np.int32), np.empty(2 * WIDTH, np.uint16)
    for row in range(len(contexts)):
        seen[:] = rows[row]
        seen_shares[:] = row_shares[row]
        for order in range(1, ORDER_MAX + 1):
            if contexts[row, ORDER_MAX - order] < 0:
                break
            visit(
                keys, visits, credit, tokens, shares, gram_key(contexts[row], ORDER_MAX, order),
                seen, seen_shares, merged, merged_shares,
            )  # fmt: skip


@njit(
    types.void(
        keys_t, bytes_t, bytes_t, table_t, shares_t, keys_t, bytes_t, bytes_t, table_t, shares_t
    ),
    nogil=True,
    cache=True,
)
def move(
    keys: UInt64Array,
    visits: UInt8Array,
    credit: UInt8Array,
    tokens: Int32Array,
    shares: UInt16Array,
    new_keys: UInt64Array,
    new_visits: UInt8Array,
    new_credit: UInt8Array,
    new_tokens: Int32Array,
    new_shares: UInt16Array,
) -> None:
    """Copy every n-gram into another table, in the order of the slots."""
    for slot in range(len(keys)):
        if keys[slot] == np.uint64(0):
            continue
        to = claim(new_keys, new_visits, new_credit, new_tokens, new_shares, keys[slot])
        new_visits[to] = visits[slot]
        new_credit[to] = credit[slot]
        new_tokens[to, :] = tokens[slot]
        new_shares[to, :] = shares[slot]
