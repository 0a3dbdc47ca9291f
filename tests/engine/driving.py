"""An engine in memory and a caller that keeps count of its steps: what most tests of drafting start from."""

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any

import numpy as np

from retrieval_draft.client import Client
from retrieval_draft.config import Config
from retrieval_draft.engine import Engine
from retrieval_draft.engine_client import EngineClient
from retrieval_draft.namespace import NamespaceState
from retrieval_draft.step import (
    DraftOptions,
    Rows,
    SequenceStart,
    SequenceStep,
    StepRequest,
    StepResponse,
)
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.memory_backend import MemoryBackend
from retrieval_draft.store.memory_store import MemoryStore
from retrieval_draft.store.records import NamespaceSpec
from retrieval_draft.stores import Document
from retrieval_draft.tree import DraftTree, int32s

TENANT = "local"
NAMESPACE = "code"
VOCAB = 100
SPEC = NamespaceSpec(NAMESPACE, VOCAB, learned_bytes_max=1 << 20)
SECONDS_MAX = 20.0
METHODS = (
    "mix",
    "suffix",
    "recycling",
    "stand",
    "hierarchy",
    "rest",
    "rasd",
    "aded",
    "phrases",
    "lookup",
)

_client_numbers = itertools.count()


@contextmanager
def running_engine(
    config: Config | None = None,
    *,
    store: MemoryStore | None = None,
    spec: NamespaceSpec | None = SPEC,
    replica: str = "a",
) -> Iterator[Engine]:
    """A started engine with one namespace."""
    engine = Engine(MemoryBackend(store), config)
    engine.start(replica)
    try:
        if spec is not None:
            engine.stores.create(TENANT, spec)
        yield engine
    finally:
        engine.stop(1.0)


def wait_for(condition: Callable[[], bool], what: str = "it did not happen") -> None:
    """Wait for something that another thread or process does."""
    deadline = monotonic() + SECONDS_MAX
    pause = threading.Event()
    while not condition():
        assert monotonic() < deadline, what
        pause.wait(0.005)


def part(
    sequence_id: str, base: int, tokens: Sequence[int], *, prompt: int | None = None, **more: Any
) -> SequenceStep:
    """One sequence's part of a step; `prompt` opens it with so many tokens of prompt."""
    if prompt is not None:
        more["start"] = replace(more.pop("start", SequenceStart(0)), prompt_length=prompt)
    return SequenceStep(sequence_id, base, int32s(tokens), **more)


def rows(at: Sequence[int], tokens: Sequence[Sequence[int]]) -> Rows:
    """Predictions with log-probabilities -0, -1, -2, ..."""
    table = int32s(tokens)
    logprobs = -np.arange(table.shape[1], dtype=np.float32) * np.ones((len(table), 1), np.float32)
    return Rows(int32s(at), table, logprobs)


@dataclass
class Caller:
    """One engine process that drafts through a client, step by step."""

    client: Client
    namespace: str = NAMESPACE
    options: DraftOptions = field(default_factory=DraftOptions)
    step_id: int = 0
    client_id: str = field(default_factory=lambda: f"caller-{next(_client_numbers)}")

    def step(self, *parts: SequenceStep, **options: Any) -> StepResponse:
        """The answer to the next step."""
        self.step_id += 1
        return self.again(*parts, **options)

    def again(self, *parts: SequenceStep, **options: Any) -> StepResponse:
        """The answer to a message with the same step_id as before."""
        asked = replace(self.options, **options)
        self.client.send(
            StepRequest(self.step_id, self.namespace, self.client_id, list(parts), asked)
        )
        answer = self.client.receive(self.step_id, SECONDS_MAX)
        assert answer is not None
        return answer

    def tree(self, *parts: SequenceStep, **options: Any) -> DraftTree:
        """The tree of the first sequence."""
        return self.step(*parts, **options).trees[0]


def caller(engine: Engine, **more: Any) -> Caller:
    return Caller(EngineClient(engine), **more)


def state_of(engine: Engine, namespace: str = NAMESPACE) -> NamespaceState:
    return engine.stores.state(TENANT, namespace)


def learned(engine: Engine, namespace: str = NAMESPACE) -> int:
    """How many tokens are learned once all that was journalled came back."""
    assert engine.flush(SECONDS_MAX)
    return state_of(engine, namespace).learned.tokens_learned


def learned_text(engine: Engine) -> list[int]:
    """The learned ring, boundaries and context included."""
    assert engine.flush(SECONDS_MAX)
    ring = state_of(engine).learned.ring
    text: list[int] = ring.read(ring.low, ring.stop).tolist()
    return text


def warm(engine: Engine, corpus: str, *texts: Sequence[int]) -> None:
    """Store and publish documents."""
    documents = [Document("", int32s(text)) for text in texts]
    engine.stores.store_documents(TENANT, NAMESPACE, corpus, documents)
    engine.stores.publish(TENANT, NAMESPACE, corpus)


def recreate(engine: Engine, spec: NamespaceSpec = SPEC) -> None:
    """The namespace is deleted, and created anew."""
    engine.stores.delete(TENANT, spec.namespace)
    wait_for(lambda: NamespaceKey(TENANT, spec.namespace) not in engine.stores._states)
    engine.stores.create(TENANT, spec)


def listed(tree: DraftTree) -> list[tuple[int, int]]:
    """The nodes as (token, parent)."""
    return list(zip(tree.token.tolist(), tree.parent.tolist(), strict=True))


def same(a: DraftTree, b: DraftTree) -> bool:
    """Whether two trees are equal in every column."""
    pairs = [(getattr(a, c), getattr(b, c)) for c in ("token", "parent", "probability", "source")]
    one, other = a.proposals, b.proposals
    if one is not None and other is not None:
        columns = ("nodes", "tokens", "probabilities")
        pairs += [(getattr(one, c), getattr(other, c)) for c in columns]
    elif len(one or other or ()):
        return False
    return all(np.array_equal(column, there) for column, there in pairs)
