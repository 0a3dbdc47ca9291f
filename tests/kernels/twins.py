"""Every kernel once more in plain Python: slow, obvious, and what the kernels are compared with.

`TWINS` names them all, so that a kernel without a twin is noticed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

from retrieval_draft.drafting.kernels import tally
from retrieval_draft.drafting.names import METHODS
from retrieval_draft.store.kernels.ring import CHAIN_STEPS_MAX, ORDERS
from tests.kernels import (
    twins_address,
    twins_cut,
    twins_embedding,
    twins_evidence,
    twins_fill,
    twins_following,
    twins_fuse,
    twins_growth,
    twins_matching,
    twins_mixing,
    twins_ngrams,
    twins_paths,
    twins_search,
    twins_segment,
    twins_stand,
    twins_stepping,
    twins_trie,
)

Ints = Sequence[int]
Rows = Sequence[Ints]

# Rings: here `tokens` is a mapping of the kept positions, which know nothing of a ring.


def mix(state: int, token: int) -> int:
    h = ((state ^ (token + 1)) * 0x9E3779B97F4A7C15) % 2**64
    return h ^ (h >> 29)


def grams_ending_at(tokens: dict[int, int], end: int) -> list[int]:
    """The hashes of the grams of ORDERS that end there, as far as tokens reach back."""
    hashes, state = [], 0
    for length in range(1, ORDERS[-1] + 1):
        token = tokens.get(end - length + 1, -1)
        if token < 0:
            break
        state = mix(state, token)
        if length in ORDERS:
            hashes.append(state)
    return hashes


def chains(tokens: dict[int, int], buckets: int) -> dict[tuple[int, int], list[int]]:
    """What `insert` keeps: per order and bucket the end positions of grams, newest first."""
    found: dict[tuple[int, int], list[int]] = {}
    for end in sorted(tokens, reverse=True):
        for order, state in enumerate(grams_ending_at(tokens, end)):
            found.setdefault((order, state % buckets), []).append(end)
    return found


def agreement(tokens: dict[int, int], end: int, query: Ints, length_max: int) -> int:
    length = 0
    while (
        length < min(len(query), length_max) and tokens.get(end - length, -2) == query[-1 - length]
    ):
        length += 1
    return length


def window(tokens: dict[int, int], start: int, depth: int) -> list[int]:
    """The tokens from `start` up to a boundary or the end, filled up with -1."""
    found: list[int] = []
    while len(found) < depth and tokens.get(start + len(found), -1) >= 0:
        found.append(tokens[start + len(found)])
    return found + [-1] * (depth - len(found))


def ring_continuations(
    tokens: dict[int, int], query: Ints, length_max: int, depth: int, count_max: int
) -> list[tuple[int, list[int]]]:
    """All places with a continuation: by order class of their agreement, newest first."""
    places = []
    for end in sorted(tokens, reverse=True):
        length = agreement(tokens, end, query, length_max)
        if length > 0 and tokens.get(end + 1, -1) >= 0:
            order = max(o for o in ORDERS if o <= length)
            places.append((-order, length, window(tokens, end + 1, depth)))
    places.sort(key=lambda place: place[0])
    return [(length, following) for _, length, following in places][:count_max]


def occurrence(
    tokens: dict[int, int], query: Ints, length_min: int, length_max: int, newest: bool
) -> int:
    for length in range(min(length_max, len(query)), length_min - 1, -1):
        ends = [
            end
            for end in sorted(tokens, reverse=newest)
            if tokens.get(end + 1, -1) >= 0 and agreement(tokens, end, query, length) == length
        ]
        if ends:
            return ends[0]
    return -1


# The adjacency matrix.

Matrix = list[list[tuple[int, int]]]
UNKNOWN: tuple[int, int] = (-1, 255)


def replace_rows(matrix: Matrix, keys: Ints, rows: Rows, logprobs: Rows) -> None:
    for key, row, logprob in zip(keys, rows, logprobs, strict=True):
        if 0 <= key < len(matrix):
            width = len(matrix[key])
            pairs = [*zip(row, logprob, strict=True)][:width]
            known = [p if 0 <= p[0] < len(matrix) else UNKNOWN for p in pairs]
            matrix[key] = known + [UNKNOWN] * (width - len(known))


def push_front(matrix: Matrix, key: int, token: int) -> None:
    row = matrix[key]
    if row[0][1] != UNKNOWN[1]:
        return
    rest = list(row)
    at = next((i for i, pair in enumerate(rest) if pair[0] == token), len(rest) - 1)
    del rest[at]
    matrix[key] = [(token, UNKNOWN[1]), *rest]


def push_text(matrix: Matrix, text: Ints) -> None:
    for key, token in pairwise(text):
        if 0 <= key < len(matrix) and 0 <= token < len(matrix):
            push_front(matrix, key, token)


# Trees that grow from places.


@dataclass
class Grown:
    """A tree as it grows."""

    token: list[int] = field(default_factory=list[int])
    parent: list[int] = field(default_factory=list[int])
    probability: list[float] = field(default_factory=list[float])

    def depth(self, node: int) -> int:
        return 0 if node < 0 else 1 + self.depth(self.parent[node])


@dataclass
class Waiting:
    """A node that may be taken, with what lies below it."""

    probability: float
    token: int
    parent: int
    slices: list[list[int]]


def sort_rows(windows: Rows, first: int, count: int) -> list[int]:
    return sorted(range(first, first + count), key=lambda row: list(windows[row]))


def groups(windows: Rows, rows: Ints, depth: int) -> list[tuple[int, list[int]]]:
    """Neighbours among `rows` with equal tokens at this depth."""
    found: list[tuple[int, list[int]]] = []
    for row in rows:
        if found and found[-1][0] == windows[row][depth]:
            found[-1][1].append(row)
        else:
            found.append((windows[row][depth], [row]))
    return found


def take_best(waiting: list[Waiting], tree: Grown, children_max: int) -> Waiting | None:
    """The most probable whose parent has room; those that cannot be taken any more are dropped."""
    while waiting:
        best = max(range(len(waiting)), key=lambda i: (waiting[i].probability, -i))
        taken = waiting[best]
        last = waiting.pop()
        if best < len(waiting):
            waiting[best] = last
        if tree.parent.count(taken.parent) < children_max:
            return taken
    return None


def grow_tree(
    windows: Rows,
    rows: Ints,
    nodes_max: int,
    depth_max: int,
    children_max: int,
    probability_min: float,
    end_tokens: Ints,
) -> Grown:
    tree = Grown()
    waiting: list[Waiting] = []
    below, node, share = list(rows), -1, 1.0
    while True:
        depth = tree.depth(node)
        ended = node >= 0 and tree.token[node] in end_tokens
        if rows and depth < min(depth_max, len(windows[0])) and not ended:
            for token, some in groups(windows, below, depth):
                part = share * len(some) / len(below)
                if token >= 0 and part >= probability_min:
                    waiting.append(Waiting(part, token, node, [some]))
        best = take_best(waiting, tree, children_max)
        if best is None or len(tree.token) == nodes_max:
            return tree
        node, share, below = len(tree.token), best.probability, best.slices[0]
        tree.token.append(best.token)
        tree.parent.append(best.parent)
        tree.probability.append(share)


def grow_path(
    windows: Rows,
    rows: Ints,
    nodes_max: int,
    depth_max: int,
    probability_min: float,
    end_tokens: Ints,
) -> Grown:
    tree = Grown()
    below, share = list(rows), 1.0
    while below and len(tree.token) < min(nodes_max, depth_max, len(windows[0])):
        known = [g for g in groups(windows, below, len(tree.token)) if g[0] >= 0]
        if not known:
            break
        token, some = max(known, key=lambda group: len(group[1]))
        share *= len(some) / len(below)
        if share < probability_min:
            break
        tree.parent.append(len(tree.token) - 1)
        tree.token.append(token)
        tree.probability.append(share)
        below = some
        if token in end_tokens:
            break
    return tree


# Counting.


def longest_exact(places: list[tuple[int, int, int, int]]) -> int:
    """The longest agreement of places that were not interrupted."""
    return max((length for _, length, _, gap in places if gap == 0), default=0)


def followed(tokens: Ints, parent: Ints, committed: Ints) -> list[int]:
    """The nodes along `committed`, from the root."""
    path: list[int] = []
    for wanted in committed:
        above = path[-1] if path else -1
        children = [i for i, p in enumerate(parent) if p == above and tokens[i] == wanted]
        if not children:
            break
        path.append(children[0])
    return path


def tallied(
    parent: Ints,
    source: Ints,
    worth: Sequence[float],
    path: Ints,
    match_length: int,
    method: int,
) -> list[list[int]]:
    """The table of one tree: by bit, depth, match length, size, tenth of the probability and method."""
    tree = Grown([0] * len(parent), list(parent))
    nodes = list(range(len(parent)))
    millionths = [int(p * 1_000_000) for p in worth]

    def row(is_in: Callable[[int], bool]) -> list[int]:
        drafted, accepted = [n for n in nodes if is_in(n)], [n for n in path if is_in(n)]
        expected = sum(millionths[n] for n in drafted)
        return [int(bool(drafted)), int(bool(accepted)), len(drafted), len(accepted), expected]

    def rows(names: Sequence[int], has: Callable[[int, int], bool]) -> list[list[int]]:
        return [row(partial(has, name)) for name in names]

    def of_tree(bounds: list[int], value: int) -> list[list[int]]:
        here = max(bound for bound in bounds if bound <= max(value, bounds[0]))
        return rows(bounds, lambda bound, _: bound == here)

    last = tally.DEPTHS - 1
    tenths = rows(range(10), lambda tenth, n: min(9, millionths[n] // 100_000) == tenth)
    sizes = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512]
    return [
        *rows(range(32), lambda bit, n: bool(source[n] >> bit & 1)),
        *rows(range(tally.DEPTHS), lambda depth, n: min(tree.depth(n), last) == depth),
        *of_tree([0, 3, 4, 6, 8, 12, 16, 24, 32], match_length),
        *of_tree(sizes, len(nodes)),
        *([0, 0, *counted[2:]] for counted in tenths),
        *rows(range(len(METHODS)), lambda one, _: one == method),
    ]


def row_of(bounds: Ints, value: int) -> int:
    """The place of the last bound that is not above the value."""
    return max([i for i, bound in enumerate(bounds) if bound <= value], default=0)


def bits_counted(
    counts: list[list[int]], mask: int, column: int, more: int, expected: int
) -> list[list[int]]:
    """The table with the rows of the mask's bits counted."""
    for bit in range(mask.bit_length()):
        if mask >> bit & 1:
            counts[bit][column] += more
            counts[bit][tally.EXPECTED] += expected
    return counts


TWINS: dict[str, Callable[..., object]] = {
    "ring.mix": mix,
    "ring.insert": chains,
    "ring.remove": chains,
    "ring.agreement": agreement,
    "ring.continuations": ring_continuations,
    "ring.occurrence": occurrence,
    "adjacency.replace_rows": replace_rows,
    "adjacency.push_front": push_front,
    "adjacency.push_text": push_text,
    "places.sort_rows": sort_rows,
    "places.grow_tree": grow_tree,
    "places.grow_path": grow_path,
    "tally.tally": tallied,
    "tally.tally_within": tallied,
    "judging.judge": tallied,
    "tally.follow_path": followed,
    "tally.longest": longest_exact,
    "tally.row_of": row_of,
    "tally.count_bits": bits_counted,
    **twins_address.TWINS,
    **twins_cut.TWINS,
    **twins_embedding.TWINS,
    **twins_evidence.TWINS,
    **twins_fill.TWINS,
    **twins_following.TWINS,
    **twins_fuse.TWINS,
    **twins_growth.TWINS,
    **twins_matching.TWINS,
    **twins_mixing.TWINS,
    **twins_ngrams.TWINS,
    **twins_paths.TWINS,
    **twins_search.TWINS,
    **twins_segment.TWINS,
    **twins_stand.TWINS,
    **twins_stepping.TWINS,
    **twins_trie.TWINS,
}
EXACT_TOKENS = CHAIN_STEPS_MAX
"""In a ring of so many tokens no chain is cut short."""
