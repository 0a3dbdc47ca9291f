"""Which segments of a corpus are to be merged: geometric, so that a token is rewritten O(log n) times."""

from collections.abc import Sequence


def due(sizes: Sequence[int], size_max: int) -> list[int]:
    """The segments that are to become one, as indexes; none if fewer than two.

    The most of the smallest ones whose sum is at least twice the largest of them and at most `size_max`:
    every merge at least doubles what a token lies in, and what is not merged at least doubles from one
    segment to the next. So there are O(log n) segments below `size_max`.
    """
    order = sorted(range(len(sizes)), key=lambda i: sizes[i])
    total, best = 0, 0
    for count, i in enumerate(order, 1):
        total += sizes[i]
        if total > size_max:
            break
        if count > 1 and total >= 2 * sizes[i]:
            best = count
    return order[:best]


def packed(sizes: Sequence[int], size_max: int) -> list[list[int]]:
    """All segments as few groups of at most `size_max`: first fit, the largest first. O(n^2)."""
    groups: list[list[int]] = []
    totals: list[int] = []
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        for g, total in enumerate(totals):
            if total + sizes[i] <= size_max:
                groups[g].append(i)
                totals[g] += sizes[i]
                break
        else:
            groups.append([i])
            totals.append(sizes[i])
    return groups
