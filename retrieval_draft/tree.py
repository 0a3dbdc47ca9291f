"""The draft tree: parallel arrays on the wire, in the stores' kernels and in the verifier alike."""

from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec.structs import force_setattr

Int32Array = npt.NDArray[np.int32]
UInt32Array = npt.NDArray[np.uint32]
Int64Array = npt.NDArray[np.int64]
UInt8Array = npt.NDArray[np.uint8]
UInt64Array = npt.NDArray[np.uint64]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# Bit numbers of DraftTree.source; equal to enum Source of the wire (a test compares them).
TIERS = {"context": 0, "learned": 1, "corpus": 2}
SOURCES = {
    "match": 8,
    "order1": 9,
    "order2": 10,
    "order3": 11,
    "order4": 12,
    "recycling": 13,
    "stand": 14,
    "corpus": 15,
    "dense": 16,
    "model": 17,
    "order0": 18,
}


NO_PROBABILITY = np.empty(0, np.float32)
NO_SOURCE = np.empty(0, np.uint32)


def int32s(values: object) -> Int32Array:
    """`values` as a contiguous little-endian int32 array."""
    return np.ascontiguousarray(values, dtype="<i4")


@dataclass(frozen=True, slots=True, eq=False)
class Proposals:
    """What the children of a stochastic draft's nodes were drawn from, without replacement.

    nodes int32[r] (-1 = the last committed token), each with at least one child; tokens int32[r, w], -1
    where there are fewer, and their probabilities float32[r, w]; what is missing to 1 is tail, never drawn.
    """

    nodes: Int32Array
    tokens: Int32Array
    probabilities: Float32Array

    def __len__(self) -> int:
        return len(self.nodes)

    def problem(self, vocab_size: int, nodes: int) -> str | None:
        """What is wrong with it for a tree of so many nodes, or None. Costs O(r * w)."""
        if not len(self.nodes):
            return None
        if int(self.nodes.min()) < -1 or int(self.nodes.max()) >= nodes:
            return f"proposals of a node outside -1 to {nodes - 1}"
        if self.tokens.size and (
            int(self.tokens.min()) < -1 or int(self.tokens.max()) >= vocab_size
        ):
            return f"proposals of a token outside the vocabulary of {vocab_size}"
        return None


class DraftTree(msgspec.Struct, frozen=True, eq=False, gc=False):
    """Draft tokens in topological order; parent[i] < i, or -1 for a child of the last committed token.

    Siblings carry distinct tokens. `probability` is that of the whole path down to the node being
    accepted; `source` is a mask of the tiers and kinds of source that proposed the node.

    With `proposals` the children of the nodes named there stand in the order drawn; any other node's are
    deterministic. Without, the whole tree may be verified as deterministic: that is exact for drawn
    nodes too, and only accepts fewer.
    """

    token: Int32Array
    parent: Int32Array
    probability: Float32Array = NO_PROBABILITY
    source: UInt32Array = NO_SOURCE
    proposals: Proposals | None = None

    def __post_init__(self) -> None:
        # Left out is 0: kernels and the wire rely on columns of one length.
        if not len(self.probability) and len(self.token):
            force_setattr(self, "probability", np.zeros(len(self.token), np.float32))
        if not len(self.source) and len(self.token):
            force_setattr(self, "source", np.zeros(len(self.token), np.uint32))

    def __len__(self) -> int:
        return len(self.token)

    def problem(self, vocab_size: int, nodes_max: int) -> str | None:
        """What is wrong with this tree for a verifier, or None. Costs O(n)."""
        n = len(self.token)
        if len(self.parent) != n:
            return f"{n} tokens but {len(self.parent)} parents"
        # Kernels read as many of each as there are tokens.
        if not len(self.probability) == len(self.source) == n:
            return (
                f"{n} tokens but {len(self.probability)} probabilities, {len(self.source)} sources"
            )
        if n > nodes_max:
            return f"{n} nodes, {nodes_max} asked for"
        if n:
            # Lists and plain loops: for trees of this size numpy's calls cost twenty times as much.
            token, parent = self.token.tolist(), self.parent.tolist()
            if min(token) < 0 or max(token) >= vocab_size:
                return f"a token outside the vocabulary of {vocab_size}"
            if parent != list(range(-1, n - 1)):
                if any(not -1 <= above < i for i, above in enumerate(parent)):
                    return "a parent that does not stand before its child"
                if len(set(zip(parent, token, strict=True))) != n:
                    return "siblings with equal tokens"
        return None if self.proposals is None else self.proposals.problem(vocab_size, n)

    def depths(self) -> Int32Array:
        """Depth of every node, 0 for children of the last committed token."""
        depth = np.zeros(len(self.token), np.int32)
        for i, p in enumerate(self.parent.tolist()):
            if p >= 0:
                depth[i] = depth[p] + 1
        return depth

    def ancestors(self) -> BoolArray:
        """bool[n, n]: whether column j is row i itself or one of its ancestors."""
        n = len(self.token)
        mask = np.eye(n, dtype=np.bool_)
        for i, p in enumerate(self.parent.tolist()):
            if p >= 0:
                mask[i] |= mask[p]
        return mask

    def follow(self, tokens: list[int]) -> list[int]:
        """The node indices along the drafted path that agrees with `tokens`, from the root."""
        path: list[int] = []
        drafted, parent = self.token.tolist(), self.parent.tolist()
        at, node = 0, -1
        try:
            for token in tokens:
                # Nodes stand behind their parents: one pass over the tree finds the whole path. Mostly
                # the next one is it.
                if drafted[at] != token or parent[at] != node:
                    at = drafted.index(token, at)
                    while parent[at] != node:
                        at = drafted.index(token, at + 1)
                path.append(at)
                node = at
                at += 1
        except (IndexError, ValueError):
            # No node further on has this token.
            return path
        return path


EMPTY = DraftTree(
    np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32), np.empty(0, np.uint32)
)
