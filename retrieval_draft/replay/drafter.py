"""Who drafts in a replay: an Engine driven as a server would be, or a peer behind the same four calls."""

import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from retrieval_draft.config import DENSE_OFF, Config
from retrieval_draft.engine import Engine
from retrieval_draft.errors import FailedPrecondition
from retrieval_draft.namespace import NamespaceState
from retrieval_draft.replay.backend import ReplayBackend
from retrieval_draft.replay.sequences import Recorded, RecordedFile
from retrieval_draft.step import (
    DraftOptions,
    Rows,
    SequenceStart,
    SequenceStep,
    Status,
    StepRequest,
)
from retrieval_draft.store.backend import Backend
from retrieval_draft.store.records import NamespaceSpec
from retrieval_draft.stores import Document
from retrieval_draft.tree import DraftTree, Int32Array, int32s
from retrieval_draft.unsent import joined

TENANT = "local"
NAMESPACE = "replay"
CLIENT = "replay"
CORPUS = "default"
DENSE_SECONDS_MAX = 60.0


class Drafter(Protocol):
    """Sees of a sequence what a server has seen at that time, and nothing else."""

    @property
    def seconds(self) -> float:
        """What the newest `draft` cost, with the learning of what was committed before it."""
        ...

    @property
    def answer_seconds(self) -> float:
        """Of these, what passed until the tree was there: learning may come behind the answer."""
        ...

    def open(self, prompt: Int32Array, rows: Rows | None, temperature: float | None) -> None:
        """A sequence begins; rows are the target's predictions along the prompt."""
        ...

    def commit(self, tokens: Int32Array, accepted: int, rows: Rows | None) -> None:
        """The target went on with `tokens`, the first `accepted` of them drafted (-1: not drafted)."""
        ...

    def draft(self) -> DraftTree:
        """A tree that may follow what was committed."""
        ...

    def close(self) -> None:
        """The sequence is over."""
        ...


@dataclass(frozen=True, slots=True)
class Setting:
    """How an engine drafts in a replay, and how much it may remember."""

    options: DraftOptions
    learned_bytes_max: int = 0
    documents: tuple[Int32Array, ...] = ()
    """A corpus that is warmed before the first sequence."""
    dense: str = DENSE_OFF
    learn_prompts: bool = False


class EngineDrafter:
    """One engine and namespace, fresh: open, commit and draft as one engine's StepRequests.

    Use as a context manager: it starts and stops the engine.
    """

    def __init__(
        self,
        file: RecordedFile,
        setting: Setting,
        backend: Backend | None = None,
        replica: str = "replay",
    ) -> None:
        self._replica = replica
        self._learn_prompts = setting.learn_prompts
        self.engine = Engine(
            backend or ReplayBackend(), Config(idle_seconds_max=float("inf"), dense=setting.dense)
        )
        self.seconds = self.answer_seconds = 0.0
        self.options = setting.options
        """Of the next step; may be changed between two."""
        self._spec = NamespaceSpec(
            namespace=NAMESPACE,
            vocab_size=file.vocab_size,
            end_tokens=file.end_tokens,
            learned_bytes_max=setting.learned_bytes_max,
            learn_prompts=setting.learn_prompts,
        )
        self._documents = [Document(str(i), one) for i, one in enumerate(setting.documents)]
        self._step_id = 0
        self._sequence = 0
        self._start: SequenceStart | None = None
        self._base = 0
        self._tokens: list[Int32Array] = []
        self._rows: list[Rows] = []
        self._verified, self._accepted = 0, -1

    def __enter__(self) -> "EngineDrafter":
        self.engine.start(self._replica)
        stores = self.engine.stores
        stores.create(TENANT, self._spec)
        if self._documents:
            stores.store_documents(TENANT, NAMESPACE, CORPUS, self._documents)
            stores.publish(TENANT, NAMESPACE, CORPUS)
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.stop()

    @property
    def state(self) -> NamespaceState:
        """The namespace that is being replayed."""
        return self.engine.stores.state(TENANT, NAMESPACE)

    def open(self, prompt: Int32Array, rows: Rows | None, temperature: float | None) -> None:
        self._sequence += 1
        self._start = SequenceStart(
            prompt_length=len(prompt),
            learn_from=0 if self._learn_prompts else len(prompt),
            temperature=temperature,
        )
        self._base, self._tokens, self._rows = 0, [prompt], []
        self._verified, self._accepted = 0, -1
        self._observe(rows)

    def commit(self, tokens: Int32Array, accepted: int, rows: Rows | None) -> None:
        self._tokens.append(tokens)
        if accepted >= 0:
            self._verified, self._accepted = self._step_id, accepted
        self._observe(rows)

    def draft(self) -> DraftTree:
        return self._step(is_finished=False)

    def close(self) -> None:
        self._step(is_finished=True)
        self.engine.flush(1.0)

    def _observe(self, rows: Rows | None) -> None:
        if rows is not None and len(rows):
            self._rows.append(rows)

    def _step(self, *, is_finished: bool) -> DraftTree:
        tokens = int32s(np.concatenate(self._tokens)) if self._tokens else int32s([])
        self._step_id += 1
        part = SequenceStep(
            sequence_id=str(self._sequence),
            base_position=self._base,
            tokens=tokens,
            start=self._start,
            finished=is_finished,
            verified_step=self._verified,
            accepted=self._accepted,
            rows=joined(self._rows) if self._rows else None,
        )
        request = StepRequest(self._step_id, NAMESPACE, CLIENT, [part], self.options)
        began = time.perf_counter()
        answer = self.engine.step(TENANT, request)
        answered = time.perf_counter()
        self.engine.settle(TENANT, CLIENT)
        self.seconds = time.perf_counter() - began
        self.answer_seconds = answered - began
        if (dense := self.engine.stores.dense_thread) is not None:
            # A real target verifies meanwhile, for longer than the dense thread takes.
            dense.wait(DENSE_SECONDS_MAX)
        if answer.statuses[0] != Status.OK:
            raise FailedPrecondition(f"the engine refused a step: {answer.problems}")
        self._base += len(tokens)
        self._start, self._tokens, self._rows = None, [], []
        self._verified, self._accepted = 0, -1
        return answer.trees[0]


def rows_between(sequence: Recorded, first: int, stop: int) -> Rows | None:
    """The rows of positions first..stop-1 of prompt + output, as far as they were recorded."""
    rows = sequence.rows
    if rows is None:
        return None
    low, high = rows.at.searchsorted([first, stop]).tolist()
    hidden = None if rows.hidden is None else rows.hidden[low:high]
    return Rows(rows.at[low:high], rows.tokens[low:high], rows.logprobs[low:high], hidden)
