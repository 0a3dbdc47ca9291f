"""Records that teach something, and what a learned tier came to."""

import random

import numpy as np

from retrieval_draft.store.backend import Backend
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.pending import Journal
from retrieval_draft.store.records import ROW_WIDTH, NamespaceSpec, Record
from retrieval_draft.tree import int32s
from tests.store.conftest import WAIT_SECONDS_MAX, Recorder, Shared

DEMO = NamespaceKey("local", "demo")
VOCAB = 50
SPEC = NamespaceSpec("demo", VOCAB)


def lesson(seed: int, tokens: int = 40) -> Record:
    """A record with context, tokens and rows of predictions, other ones for every seed."""
    dice = np.random.default_rng(seed)
    context, text = dice.integers(0, VOCAB, 4), dice.integers(0, VOCAB, tokens)
    at = np.arange(3, 3 + tokens - 1, 5)
    rows = dice.integers(0, VOCAB, (len(at), ROW_WIDTH))
    return Record(
        seed,
        4,
        context=int32s(context).tobytes(),
        tokens=int32s(text).tobytes(),
        row_at=int32s(at).tobytes(),
        row_tokens=int32s(rows.reshape(-1)).tobytes(),
        row_logprobs=np.sort(dice.integers(0, 200, rows.shape).astype(np.uint8)).tobytes(),
    )


def opened(store: Shared, replica: str = "a") -> tuple[Backend, Recorder]:
    """A learning replica of a namespace that exists."""
    backend, heard = store.learning(replica)
    backend.create_namespace(DEMO, SPEC)
    return backend, heard


def journal_of(backend: Backend) -> Journal:
    return Journal(DEMO, backend.snapshots(DEMO)[0].incarnation)


def taught(backend: Backend, *seeds: int) -> None:
    """The lessons are in the journal, each in a batch of its own, and applied here."""
    for seed in seeds:
        backend.append(DEMO, lesson(seed))
        assert backend.flush(WAIT_SECONDS_MAX)


def digest(heard: Recorder) -> str:
    """Of what this replica has learned."""
    return heard.tiers[DEMO].digest()


def seeds_of(heard: Recorder) -> list[int]:
    """The lessons that were applied, in order."""
    return [r.sequence for _, _, batch in list(heard.entries) for r in batch.records]


def shuffled(count: int, seed: int) -> list[int]:
    """The numbers below `count` in some order."""
    return random.Random(seed).sample(range(count), count)  # noqa: S311 - a test's
