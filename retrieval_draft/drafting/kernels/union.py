"""The best-first union of every source's candidates under one node budget, and its teaching.

A source's candidate falls into a bin of equal evidence; the bin's acceptance so far is its
probability. Where sources agree on a token the surest of them counts. `accept` holds float32[2, BINS]:
hits and trials per bin, decayed by count.
"""

import numpy as np
from numba import float64, int64, njit, types

from retrieval_draft.tree import Float32Array, Int32Array, UInt32Array

row_t = types.Array(types.int32, 1, "C")
table_t = types.Array(types.int32, 2, "C")
bytes_t = types.Array(types.uint8, 2, "C")
floats_t = types.Array(types.float32, 1, "C")
counts_t = types.Array(types.float32, 2, "C")
masks_t = types.Array(types.uint32, 1, "C")
bounds_t = types.Array(types.int64, 1, "C")

TIERS = 3
LENGTH_CLASSES = 8
SHARES = 8
SUPPORTS = 3
PLACE_BINS = TIERS * LENGTH_CLASSES * SHARES * SUPPORTS
RANKS = 8
LOGPROBS = 9
BINS = PLACE_BINS + RANKS * LOGPROBS
SOURCES = TIERS + 1
TRIALS_MAX = 512.0
CANDIDATES_MAX = 64


@njit(int64(int64), nogil=True, cache=True)
def length_class(length: int) -> int:
    """0 for an agreement of 1, then 2, 3, 4, up to 6, 10, 18, and longer."""
    if length <= 4:
        return length - 1
    if length <= 6:
        return 4
    if length <= 10:
        return 5
    return 6 if length <= 18 else 7


@njit(int64(int64, int64, float64, int64), nogil=True, cache=True)
def place_bin(tier: int, length: int, share: float, support: int) -> int:
    """The bin of a candidate that `support` places of a tier propose with this weighted share."""
    s = min(SHARES - 1, int(share * SHARES))
    c = min(SUPPORTS, support) - 1
    return ((tier * LENGTH_CLASSES + length_class(length)) * SHARES + s) * SUPPORTS + c


@njit(int64(int64, int64), nogil=True, cache=True)
def recycling_bin(rank: int, logprob: int) -> int:
    """The bin of the matrix's candidate of this rank; `logprob` in 1/16 nat, 255 = unknown."""
    level = LOGPROBS - 1 if logprob == 255 else min(LOGPROBS - 2, logprob // 8)
    return PLACE_BINS + rank * LOGPROBS + level


@njit(
    int64(
        table_t, row_t, row_t, bounds_t, table_t, bytes_t, int64, counts_t,
        int64, int64, int64, int64, row_t, row_t, row_t, floats_t, masks_t, table_t,
    ),
    nogil=True,
    cache=True,
)  # fmt: skip
def grow_union(
    windows: Int32Array,
    lengths: Int32Array,
    rows: Int32Array,
    tier_bounds: np.ndarray,
    successors: Int32Array,
    logprobs: np.ndarray,
    last_token: int,
    accept: Float32Array,
    nodes_max: int,
    depth_max: int,
    children_max: int,
    chain: int,
    end_tokens: Int32Array,
    token: Int32Array,
    parent: Int32Array,
    probability: Float32Array,
    source: UInt32Array,
    evidence: Int32Array,
) -> int:
    """Grow one tree; rows tier_bounds[t]..tier_bounds[t+1]-1 are tier t's, sorted. Returns its size.

    evidence[node, s] is the bin of source s (the three tiers' places, then recycling) or -1.
    """
    room = nodes_max * 2 + CANDIDATES_MAX
    f_p = np.empty(room, np.float64)
    f_token = np.empty(room, np.int64)
    f_parent = np.empty(room, np.int64)
    f_depth = np.empty(room, np.int64)
    f_slice = np.empty((room, 2 * TIERS), np.int64)
    f_bins = np.empty((room, SOURCES), np.int64)
    c_p = np.empty(CANDIDATES_MAX, np.float64)
    c_token = np.empty(CANDIDATES_MAX, np.int64)
    c_slice = np.empty((CANDIDATES_MAX, 2 * TIERS), np.int64)
    c_bins = np.empty((CANDIDATES_MAX, SOURCES), np.int64)
    children = np.zeros(nodes_max + 1, np.int64)
    here = np.empty(2 * TIERS, np.int64)
    for t in range(TIERS):
        here[2 * t], here[2 * t + 1] = tier_bounds[t], tier_bounds[t + 1]
    waiting = 0
    n = 0
    depth, above, share_above, key = 0, -1, 1.0, last_token
    while True:
        found = 0
        if depth < depth_max:
            for t in range(TIERS):
                total = 0.0
                if depth < windows.shape[1]:
                    for i in range(here[2 * t], here[2 * t + 1]):
                        total += lengths[rows[i]] + depth
                start = here[2 * t]
                while start < here[2 * t + 1] and depth < windows.shape[1]:
                    child = windows[rows[start], depth]
                    stop = start
                    weight = 0.0
                    longest = 0
                    while stop < here[2 * t + 1] and windows[rows[stop], depth] == child:
                        length = lengths[rows[stop]] + depth
                        weight += length
                        longest = max(longest, int(length))
                        stop += 1
                    if child >= 0:
                        at = -1
                        for c in range(found):
                            if c_token[c] == child:
                                at = c
                                break
                        if at < 0 and found < CANDIDATES_MAX:
                            at = found
                            found += 1
                            c_token[at] = child
                            c_p[at] = 0.0
                            c_slice[at, :] = 0
                            c_bins[at, :] = -1
                        if at >= 0:
                            b = place_bin(t, longest, float(weight / total), stop - start)
                            c_bins[at, t] = b
                            c_slice[at, 2 * t] = start
                            c_slice[at, 2 * t + 1] = stop
                            c_p[at] = max(c_p[at], accept[0, b] / accept[1, b])
                    start = stop
            for rank in range(successors.shape[1]):
                child = successors[key, rank]
                if child < 0 or child >= successors.shape[0]:
                    continue
                at = -1
                for c in range(found):
                    if c_token[c] == child:
                        at = c
                        break
                if at < 0 and found < CANDIDATES_MAX:
                    at = found
                    found += 1
                    c_token[at] = child
                    c_p[at] = 0.0
                    c_slice[at, :] = 0
                    c_bins[at, :] = -1
                if at >= 0 and c_bins[at, TIERS] < 0:
                    b = recycling_bin(rank, int(logprobs[key, rank]))
                    c_bins[at, TIERS] = b
                    c_p[at] = max(c_p[at], accept[0, b] / accept[1, b])
        total = 0.0
        for c in range(found):
            total += c_p[c]
        scale = share_above / max(1.0, total)
        if chain and found > 0:
            waiting = 0
            best = 0
            for c in range(1, found):
                if c_p[c] > c_p[best]:
                    best = c
            c_p[0], c_token[0] = c_p[best], c_token[best]
            c_slice[0, :] = c_slice[best, :]
            c_bins[0, :] = c_bins[best, :]
            found = 1
        for c in range(found):
            p = c_p[c] * scale
            at = waiting
            if waiting == room:
                # Full: the least probable gives way, it would hardly be reached.
                at = 0
                for i in range(1, waiting):
                    if f_p[i] < f_p[at]:
                        at = i
                if f_p[at] >= p:
                    continue
            else:
                waiting += 1
            f_p[at] = p
            f_token[at] = c_token[c]
            f_parent[at] = above
            f_depth[at] = depth
            f_slice[at, :] = c_slice[c, :]
            f_bins[at, :] = c_bins[c, :]
        best = -1
        while waiting > 0:
            best = 0
            for i in range(1, waiting):
                if f_p[i] > f_p[best]:
                    best = i
            if children[f_parent[best] + 1] < children_max:
                break
            waiting -= 1
            f_p[best], f_token[best] = f_p[waiting], f_token[waiting]
            f_parent[best], f_depth[best] = f_parent[waiting], f_depth[waiting]
            f_slice[best, :] = f_slice[waiting, :]
            f_bins[best, :] = f_bins[waiting, :]
            best = -1
        if best < 0 or n == nodes_max:
            return n
        token[n] = f_token[best]
        parent[n] = f_parent[best]
        probability[n] = f_p[best]
        mask = np.uint32(0)
        for t in range(TIERS):
            if f_bins[best, t] >= 0:
                mask |= np.uint32(1 << t) | np.uint32(1 << (8 if t < 2 else 15))
        if f_bins[best, TIERS] >= 0:
            mask |= np.uint32(1 << 1) | np.uint32(1 << 13)
        source[n] = mask
        for s in range(SOURCES):
            evidence[n, s] = f_bins[best, s]
        here[:] = f_slice[best, :]
        children[f_parent[best] + 1] += 1
        share_above, key, above = f_p[best], f_token[best], n
        depth = f_depth[best] + 1
        for end in end_tokens:
            if key == end:
                depth = depth_max
        waiting -= 1
        f_p[best], f_token[best] = f_p[waiting], f_token[waiting]
        f_parent[best], f_depth[best] = f_parent[waiting], f_depth[waiting]
        f_slice[best, :] = f_slice[waiting, :]
        f_bins[best, :] = f_bins[waiting, :]
        n += 1


@njit(types.void(row_t, row_t, table_t, row_t, counts_t), nogil=True, cache=True)
def teach(
    token: Int32Array,
    parent: Int32Array,
    evidence: Int32Array,
    committed: Int32Array,
    accept: Float32Array,
) -> None:
    """Count hits and trials of every node whose parent the committed tokens reached."""
    n = len(token)
    depth_of = np.full(n + 1, -1, np.int64)
    depth_of[0] = 0
    for i in range(n):
        depth = depth_of[parent[i] + 1]
        if depth < 0 or depth >= len(committed):
            continue
        hit = token[i] == committed[depth]
        if hit:
            depth_of[i + 1] = depth + 1
        for s in range(evidence.shape[1]):
            b = evidence[i, s]
            if b >= 0:
                accept[1, b] += 1.0
                if hit:
                    accept[0, b] += 1.0
                if accept[1, b] > TRIALS_MAX:
                    accept[0, b] *= 0.5
                    accept[1, b] *= 0.5
