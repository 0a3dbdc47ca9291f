"""Merging into one tree, and counting prefixes, in plain Python."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Ints = Sequence[int]
Path = tuple[int, ...]


@dataclass
class Trie:
    """Nodes by their paths, in the order added: [probability, source]."""

    nodes_max: int
    depth_max: int
    children_max: int
    end_tokens: Ints
    nodes: dict[Path, list[float]] = field(default_factory=dict)

    def listed(self) -> list[tuple[int, int]]:
        index = {path: i for i, path in enumerate(self.nodes)}
        return [(path[-1], index.get(path[:-1], -1)) for path in self.nodes]


def child_of(trie: Trie, path: Path) -> bool:
    """Whether the node is there, or may be added."""
    if path in trie.nodes:
        return True
    above = path[:-1]
    siblings = sum(other[:-1] == above for other in trie.nodes)
    return (
        len(trie.nodes) < trie.nodes_max
        and siblings < trie.children_max
        and len(path) <= trie.depth_max
        and not (above and above[-1] in trie.end_tokens)
    )


def merge_rows(trie: Trie, rows: Sequence[Ints], acceptance: float, masks: Ints) -> None:
    for row, mask in zip(rows, masks, strict=True):
        path: Path = ()
        for child in row:
            if child < 0 or not child_of(trie, (*path, child)):
                break
            worth = trie.nodes[path][0] if path else 1.0
            path = (*path, child)
            node = trie.nodes.setdefault(path, [worth * acceptance, 0])
            node[1] = int(node[1]) | mask


def graft(
    trie: Trie,
    token: Ints,
    parent: Ints,
    probability: Sequence[float],
    source: Ints,
    first_min: float,
) -> None:
    rooted = set(trie.nodes)
    paths: dict[int, Path] = {-1: ()}
    for i, (child, above, p, mask) in enumerate(
        zip(token, parent, probability, source, strict=True)
    ):
        if above not in paths or not child_of(trie, path := (*paths[above], child)):
            continue
        if len(path) == 1 and first_min and (path not in rooted or trie.nodes[path][0] < first_min):
            continue
        share = min(1.0, p / probability[above] if above >= 0 else p)
        worth = share * (trie.nodes[path[:-1]][0] if path[:-1] else 1.0)
        node = trie.nodes.setdefault(path, [0.0, 0])
        node[0], node[1] = max(node[0], worth), int(node[1]) | mask
        paths[i] = path


def code_behind(text: Ints, order: Ints, rank: int, distance: int) -> int:
    at = order[rank] + distance
    return text[at] if at < len(text) else 0


def run_stop(
    text: Ints, order: Ints, low: int, step: int, distance: int, start: int, stop: int
) -> int:
    codes = [code_behind(text, order, low + i * step, distance) for i in range(stop)]
    return next((i for i in range(start, stop) if codes[i] != codes[start]), stop)


def grow_prefixes(
    text: Ints,
    starts: Ints,
    nodes_max: int,
    depth_max: int,
    children_max: int,
    end_tokens: Ints,
) -> list[tuple[Path, int]]:
    """The prefixes of what stands at `starts`, most frequent first, with their counts."""
    counts: Counter[Path] = Counter()
    for start in starts:
        for stop in range(start + 1, start + depth_max + 1):
            path = tuple(text[start:stop])
            if len(path) < stop - start or path[-1] < 0:
                break
            counts[path] += 1
            if path[-1] in end_tokens:
                break
    taken: list[tuple[Path, int]] = []
    frontier: list[Path] = []
    here: Path = ()
    while len(taken) < nodes_max:
        # Met in ascending order of tokens; a parent's rarest are left out.
        met = sorted(p for p in counts if p[:-1] == here and len(p) == len(here) + 1)
        best = sorted(met, key=lambda p: -counts[p])[:children_max]
        frontier += [p for p in met if p in best]
        if not frontier:
            break
        here = max(frontier, key=lambda p: counts[p])
        frontier.remove(here)
        taken.append((here, counts[here]))
    return taken


TWINS: dict[str, Callable[..., object]] = {
    "trie.child_of": child_of,
    "trie.merge_rows": merge_rows,
    "trie.graft": graft,
    "prefixes.code_behind": code_behind,
    "prefixes.run_stop": run_stop,
    "prefixes.grow_prefixes": grow_prefixes,
}
