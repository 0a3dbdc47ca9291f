"""Embeddings of contexts: float32[n, 64] of length 1, so that inner products are cosines."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from retrieval_draft.store.kernels import embedding as kernels
from retrieval_draft.tree import Float32Array, Int32Array

DIMENSIONS = kernels.DIMENSIONS
TAIL_TOKENS = 24
"""A query's context need not be longer: what lies before weighs under 2 %."""
SAMPLE_ROWS = 1024
"""States that the projection of hidden states is fitted to."""

StateArray = npt.NDArray[np.float16]


class Embedding(Protocol):
    """Turns what is known of contexts into vectors."""

    def __call__(self, tokens: Int32Array, states: StateArray | None) -> Float32Array | None:
        """One vector per token, of the context that ends with it; 0 where none is known.

        None as long as nothing can be embedded.
        """
        ...


class TokenEmbedding:
    """Model-free: from the tokens themselves (kernels/embedding.py)."""

    def __call__(self, tokens: Int32Array, states: StateArray | None) -> Float32Array:
        del states
        out = np.empty((len(tokens), DIMENSIONS), np.float32)
        state, before = np.zeros(DIMENSIONS, np.float32), np.zeros(DIMENSIONS, np.float32)
        kernels.embed(tokens, state, before, out)
        return out


class StateEmbedding:
    """The model's hidden states after the tokens, reduced by principal components to 64 dimensions.

    Fitted once, to the first SAMPLE_ROWS states; until then nothing is embedded. States of another
    width than the first one's are passed over, as are rows that are not finite.
    """

    def __init__(self) -> None:
        self._sample: list[Float32Array] = []
        self.mean: Float32Array | None = None
        self.axes: Float32Array | None = None
        """float32[width, 64]; columns are 0 beyond a narrower width."""

    def __call__(self, tokens: Int32Array, states: StateArray | None) -> Float32Array | None:
        if states is None or not len(states):
            return None
        rows = states.astype(np.float32)
        # A state that was not observed is 0 throughout; float16 overflows to infinity.
        known = np.isfinite(rows).all(axis=1) & rows.any(axis=1)
        if self.axes is None:
            self._gather(rows[known])
        if self.mean is None or self.axes is None or rows.shape[1] != len(self.mean):
            return None
        projected: Float32Array = np.zeros((len(rows), DIMENSIONS), np.float32)
        projected[known] = (rows[known] - self.mean) @ self.axes
        length = np.linalg.norm(projected, axis=1, keepdims=True)
        projected /= np.maximum(length, 1e-6)
        return projected

    def _gather(self, rows: Float32Array) -> None:
        if self._sample and self._sample[0].shape[1] != rows.shape[1]:
            return
        self._sample.append(rows)
        if sum(map(len, self._sample)) < SAMPLE_ROWS:
            return
        sample = np.concatenate(self._sample)[:SAMPLE_ROWS]
        self._sample = []
        mean = sample.mean(axis=0)
        _, _, components = np.linalg.svd(sample - mean, full_matrices=False)
        axes = np.zeros((sample.shape[1], DIMENSIONS), np.float32)
        kept = min(DIMENSIONS, len(components))
        axes[:, :kept] = components[:kept].T
        self.mean, self.axes = mean.astype(np.float32), axes
