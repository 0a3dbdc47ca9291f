"""Draft chains in llama-cpp-python: an object for `Llama(draft_model=...)`.

It is called with the whole history, once a step, and never told what a request is. But between two
calls of one request exactly one thing happens: some of the draft is kept, and one token is sampled. A
history that is anything else is a new request, and the one before has ended.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from retrieval_draft.adapters.chain import chain_of
from retrieval_draft.adapters.opening import serving_drafter
from retrieval_draft.adapters.serving import Row, ServedModel, ServingDrafter
from retrieval_draft.tree import Int32Array, int32s

TOKENS_MAX = 8
NO_TOKENS = np.empty(0, np.intc)


class LoadedModel(Protocol):
    """Of llama_cpp.Llama what is needed."""

    model_path: str

    def n_vocab(self) -> int: ...

    def n_ctx(self) -> int: ...

    def token_eos(self) -> int: ...


class LlamaDrafter:
    """Give it to `Llama(draft_model=...)`, then the model to `bind`: until then it drafts nothing.

    `settings` are the adapters' (`read_settings`), else the environment's. For one model, which decodes
    one request at a time. No call raises; a draft has at most `tokens_max` tokens, all of the vocabulary:
    llama.cpp fails the request otherwise.
    """

    def __init__(
        self,
        settings: Mapping[str, object] | None = None,
        *,
        tokens_max: int = TOKENS_MAX,
        drafter: ServingDrafter | None = None,
    ) -> None:
        self.serving = drafter
        self._settings = settings
        self._tokens_max = tokens_max
        self._model: ServedModel | None = None
        self._length_max = 0
        self._requests = 0
        self._history: Int32Array = int32s([])
        self._chain: list[int] = []

    def bind(self, model: LoadedModel) -> None:
        """The model that it drafts for, now that it is loaded. Returns at once."""
        self._length_max = model.n_ctx()
        name = Path(model.model_path).stem
        self._model = ServedModel(name, model.n_vocab(), (model.token_eos(),))
        if self.serving is None:
            self.serving = serving_drafter(self._model, self._settings, os.environ)

    def __call__(self, input_ids: npt.NDArray[np.intc], /, **_: object) -> npt.NDArray[np.intc]:
        """What may follow `input_ids`, prompt and output so far; perhaps nothing."""
        if self.serving is None or self._model is None or not len(input_ids):
            return NO_TOKENS
        history = int32s(input_ids)
        if not self._goes_on(history):
            self.finish()
            self._requests += 1
            # The first call comes when one token was sampled.
            self._history = history[:-1]
        fresh = len(history) - len(self._history)
        row = Row(self._name, history, fresh, self._tokens_max, length_max=self._length_max)
        (tree,) = self.serving.step([row])
        self._chain = chain_of(tree, self._model.vocab_size, row.room)
        self._history = history.copy()
        return np.array(self._chain, np.intc)

    def finish(self) -> None:
        """The newest request has ended; without this it does when the next one begins."""
        if self.serving is not None and len(self._history):
            self.serving.finish([self._name])
        self._history, self._chain = int32s([]), []

    def close(self) -> None:
        """Let what is learned be learned, and leave the drafter."""
        self.finish()
        if self.serving is not None:
            self.serving.close()

    @property
    def _name(self) -> str:
        return f"request-{self._requests}"

    def _goes_on(self, history: Int32Array) -> bool:
        known = len(self._history)
        kept = len(history) - known - 1
        if not known or not 0 <= kept <= len(self._chain):
            return False
        return history[known:-1].tolist() == self._chain[:kept] and np.array_equal(
            history[:known], self._history
        )
