"""Static draft trees: which rank of which node's candidates takes each place, whatever the tokens are.

Token Recycling and STAND fill such a tree at every step. STAND's is data-driven: a wide tree drafts
over recorded outputs, and the nodes that were accepted most often are kept (`tree optimise`).
"""

import heapq
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path

from retrieval_draft.errors import InvalidInput
from retrieval_draft.tree import Int32Array, int32s

SHIPPED = "stand"
WIDE_NODES, WIDE_DEPTH = 625, 20
WIDE_ACCEPTANCE = (0.78, 0.2, 0.1, 0.06, 0.04, 0.03, 0.022, 0.017, 0.013, 0.01)
"""Falls with the rank, and slowly enough with the depth that the wide tree reaches WIDE_DEPTH."""
NODES_MAX = 4096


@dataclass(frozen=True)
class Template:
    """Node i is the ranks[i]-th best child (0 = best) of node parents[i], -1 being the root.

    Topological; no two nodes of one parent have the same rank. Raises InvalidInput for anything else.
    """

    parents: tuple[int, ...]
    ranks: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.parents) <= NODES_MAX:
            raise InvalidInput("template", len(self.parents), f"1 to {NODES_MAX} nodes")
        if len(self.ranks) != len(self.parents):
            raise InvalidInput("template", len(self.ranks), "as many ranks as parents")
        for node, (parent, rank) in enumerate(zip(self.parents, self.ranks, strict=True)):
            if not -1 <= parent < node:
                raise InvalidInput("template", parent, f"a parent before node {node}")
            if rank < 0:
                raise InvalidInput("template", rank, "ranks of 0 or more")
        if len(set(zip(self.parents, self.ranks, strict=True))) < len(self.parents):
            raise InvalidInput("template", "one rank twice", "distinct ranks under one parent")

    def __len__(self) -> int:
        return len(self.parents)

    @cached_property
    def parent_array(self) -> Int32Array:
        """int32[n], read-only."""
        return _frozen(self.parents)

    @cached_property
    def rank_array(self) -> Int32Array:
        """int32[n], read-only."""
        return _frozen(self.ranks)

    @cached_property
    def children_array(self) -> Int32Array:
        """int32[n + 1], read-only: how many children the root has, then every node."""
        counts = [0] * (len(self) + 1)
        for parent in self.parents:
            counts[parent + 1] += 1
        return _frozen(counts)

    @cached_property
    def inner(self) -> int:
        """How many nodes have children, the root counted."""
        return int((self.children_array > 0).sum())

    @cached_property
    def depths(self) -> tuple[int, ...]:
        """Depth of every node, 1 for children of the root."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(1 if parent < 0 else depths[parent] + 1)
        return tuple(depths)

    @classmethod
    def read(cls, path: Path) -> "Template":
        """The tree of a JSON file `{"parents": [...], "ranks": [...]}`; InvalidInput for another one."""
        return cls._of(path.read_text(encoding="utf-8"), str(path))

    def write(self, path: Path) -> None:
        """One JSON object, as `read` takes it."""
        tree = {"parents": self.parents, "ranks": self.ranks}
        path.write_text(json.dumps(tree) + "\n", encoding="utf-8")

    @classmethod
    def shipped(cls, name: str = SHIPPED) -> "Template":
        """The tree that the package carries under this name."""
        return _shipped(name)

    @classmethod
    def best_first(cls, nodes: int, depth_max: int, acceptance: Sequence[float]) -> "Template":
        """The `nodes` most probable nodes, best first, if a child of rank j is accepted with acceptance[j].

        `acceptance` descends. Parents and better siblings stand before, so that any prefix is a tree.
        Fewer nodes where `depth_max` levels hold no more.
        """
        parents: list[int] = []
        ranks: list[int] = []
        waiting = [(-acceptance[0], -1, 0, 1)]
        while waiting and len(parents) < nodes:
            score, parent, rank, depth = heapq.heappop(waiting)
            node = len(parents)
            parents.append(parent)
            ranks.append(rank)
            # A sibling of the next rank, and the node's own first child: both less probable.
            if rank + 1 < len(acceptance):
                beside = score / acceptance[rank] * acceptance[rank + 1]
                heapq.heappush(waiting, (beside, parent, rank + 1, depth))
            if depth < depth_max:
                heapq.heappush(waiting, (score * acceptance[0], node, 0, depth + 1))
        return cls(tuple(parents), tuple(ranks))

    @classmethod
    def wide(cls) -> "Template":
        """STAND's 625 nodes down to depth 20, from which `tree optimise` keeps the best."""
        return cls.best_first(WIDE_NODES, WIDE_DEPTH, WIDE_ACCEPTANCE)

    @classmethod
    def _of(cls, text: str, origin: str) -> "Template":
        try:
            tree = json.loads(text)
            parents, ranks = tuple(tree["parents"]), tuple(tree["ranks"])
        except (ValueError, KeyError, TypeError) as error:
            limit = '{"parents": [...], "ranks": [...]}'
            raise InvalidInput("template", origin, limit, str(error)) from error
        if not all(type(value) is int for value in (*parents, *ranks)):
            raise InvalidInput("template", origin, "integers")
        return cls(parents, ranks)


@cache
def _shipped(name: str) -> Template:
    resource = files("retrieval_draft.drafting") / "trees" / f"{name}.json"
    return Template._of(resource.read_text(encoding="utf-8"), name)


def _frozen(values: Sequence[int]) -> Int32Array:
    array = int32s(values)
    array.flags.writeable = False
    return array
