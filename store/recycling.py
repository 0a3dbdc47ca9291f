"""Token Recycling's adjacency matrix (Luo et al., ACL 2025): the target's last top-8 after every token.

Rows start at -1, so that an unknown token drafts nothing. Published updates are kept: a row is replaced
by the newest prediction after its token. Where an engine reports tokens only, the token that followed
moves to the front of the row instead.
"""

import numpy as np
import numpy.typing as npt

from retrieval_draft.store.kernels import adjacency as kernels
from retrieval_draft.tree import Int32Array

WIDTH = 8


class Recycling:
    """int32[V, 8] successors, most probable first, and their uint8 log-probabilities (1/16 nat)."""

    def __init__(self, vocab_size: int) -> None:
        self.successors = np.full((vocab_size, WIDTH), -1, np.int32)
        self.logprobs = np.full((vocab_size, WIDTH), kernels.UNKNOWN_LOGPROB, np.uint8)

    @property
    def nbytes(self) -> int:
        return self.successors.nbytes + self.logprobs.nbytes

    def observe(self, keys: Int32Array, rows: Int32Array, logprobs: npt.NDArray[np.uint8]) -> None:
        """Row keys[i] becomes rows[i] (int32[r, 8]), in order; ids outside the vocabulary are dropped."""
        if len(keys):
            kernels.replace_rows(self.successors, self.logprobs, keys, rows, logprobs)

    def follow(self, text: Int32Array) -> None:
        """Tokens followed one another: all there is to know where the target's predictions never came."""
        kernels.push_text(self.successors, self.logprobs, text)
