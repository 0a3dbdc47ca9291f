"""Documents into token ids: batches that the tokenizer's own threads share, read ahead of."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from retrieval_draft.tree import Int32Array
from retrieval_draft.warming.documents import Document, Ids, Text

BATCH_CHARACTERS = 1 << 20
BATCH_TOKENS = 1 << 18
BATCH_DOCUMENTS = 512


@dataclass(slots=True)
class Work:
    """Tokens made from text, and the seconds it took; ids that came as ids are not counted."""

    tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Tokens:
    """One document as the sidecar takes it."""

    name: str
    ids: Int32Array


def batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Documents in order, so many that threads have work and memory stays bounded."""
    batch: list[Document] = []
    room = 1.0
    for document in documents:
        batch.append(document)
        if isinstance(document, Text):
            room -= len(document.text) / BATCH_CHARACTERS
        else:
            room -= len(document.ids) / BATCH_TOKENS
        if room <= 0 or len(batch) == BATCH_DOCUMENTS:
            yield batch
            batch, room = [], 1.0
    if batch:
        yield batch


class Tokeniser:
    """A model's tokenizer at work, and how long that took."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.work = Work()

    def encoded(self, batch: Sequence[Document]) -> list[Tokens]:
        """The batch as tokens, in order; without special tokens of the tokenizer's own."""
        texts = [document.text for document in batch if isinstance(document, Text)]
        began = time.perf_counter()
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        made = iter([np.array(encoding.ids, np.int32) for encoding in encodings])
        self.work.seconds += time.perf_counter() - began
        found = [Tokens(one.name, one.ids if isinstance(one, Ids) else next(made)) for one in batch]
        self.work.tokens += sum(
            len(ids.ids) for ids, one in zip(found, batch, strict=True) if isinstance(one, Text)
        )
        return found
