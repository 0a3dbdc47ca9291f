"""Documents to a sidecar: those it does not have, in bounded messages, few ahead of what it acknowledged."""

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from tokenizers import Tokenizer

from retrieval_draft.client import GrpcClient
from retrieval_draft.columns import encode_offsets
from retrieval_draft.tree import int32s
from retrieval_draft.v1 import store_pb2 as pb
from retrieval_draft.warming.digests import Digests, Tokenised, text_digest
from retrieval_draft.warming.documents import Document, Ids, Text
from retrieval_draft.warming.tokenising import Tokeniser, Tokens, Work, batches

MESSAGE_TOKENS = 1 << 18
MESSAGE_DOCUMENTS = 512
"""A message has at most so many, or one document: with the bound of a document, at most 9 MiB of tokens."""
UNACKNOWLEDGED_MAX = 4
_WAIT_SECONDS = 0.2


@dataclass(slots=True)
class Warmed:
    """What a warming came to. `documents` and `tokens` are of all that was read, stored before or not.

    `documents_sent` were new to the sidecar as far as we knew, `documents_known` it had already.
    """

    documents: int = 0
    tokens: int = 0
    documents_sent: int = 0
    documents_known: int = 0
    durability: str = ""
    corpus_documents: int = 0
    corpus_tokens: int = 0
    tokenised: Work = field(default_factory=Work)
    is_interrupted: bool = False


def warm(
    client: GrpcClient,
    namespace: str,
    corpus: str,
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    digests: Digests | None = None,
    stop: threading.Event | None = None,
    advance: Callable[[Warmed], None] = lambda warmed: None,
) -> Warmed:
    """Tokenise and send; returns when drafts use the corpus.

    What the sidecar has is not sent, and where `digests` remembers it, not tokenised. Once `stop` is
    set, nothing more is read; what was sent is stored and used. Nothing is sent if there are no documents.
    """
    feed = _Feed(
        client, namespace, corpus, Tokeniser(tokenizer), digests, stop or threading.Event()
    )
    requests = feed.requests(batches(documents))
    if (first := next(requests, None)) is None:
        return feed.warmed
    slots = threading.Semaphore(UNACKNOWLEDGED_MAX)
    ended = threading.Event()

    def paced() -> Iterator[pb.WarmRequest]:
        request: pb.WarmRequest | None = first
        while request is not None:
            while not slots.acquire(timeout=_WAIT_SECONDS):
                if ended.is_set():
                    return
            yield request
            request = next(requests, None)

    warmed = feed.warmed
    try:
        for progress in client.warm(paced()):
            slots.release()
            warmed.durability = pb.Durability.Name(progress.durability).removeprefix("DURABILITY_")
            warmed.corpus_documents = progress.corpus_documents
            warmed.corpus_tokens = progress.corpus_tokens
            warmed.documents_known = feed.left_out + progress.documents_known
            advance(warmed)
    finally:
        ended.set()
    return warmed


class _Feed:
    """The messages of one warming, and what is counted while they are made."""

    def __init__(
        self,
        client: GrpcClient,
        namespace: str,
        corpus: str,
        tokeniser: Tokeniser,
        digests: Digests | None,
        stop: threading.Event,
    ) -> None:
        self.warmed = Warmed(tokenised=tokeniser.work)
        self._stop = stop
        self.left_out = 0
        """Documents that were not sent, because the sidecar has them."""
        self._client, self._namespace, self._corpus = client, namespace, corpus
        self._tokeniser, self._digests = tokeniser, digests

    def requests(self, found: Iterator[list[Document]]) -> Iterator[pb.WarmRequest]:
        """Messages of what is new. If all is known, one without documents: it may not be in use yet."""
        sent = False
        for batch in self._until_stopped(found):
            for request in self._messages(self._fresh(batch)):
                sent = True
                yield request
        if not sent and self.left_out:
            yield self._message([])

    def _until_stopped(self, found: Iterator[list[Document]]) -> Iterator[list[Document]]:
        while not self._stop.is_set():
            if (batch := next(found, None)) is None:
                return
            yield batch
        self.warmed.is_interrupted = True

    def _fresh(self, batch: list[Document]) -> list[Tokens]:
        """What the sidecar does not have, tokenised."""
        keys = [text_digest(one.text) if isinstance(one, Text) else b"" for one in batch]
        before = self._remembered(batch, keys)
        known = self._known(before)
        rest = [i for i in range(len(batch)) if not known[i]]
        made = self._tokeniser.encoded([batch[i] for i in rest])
        self._remember([keys[i] for i in rest], made)
        had = sum(one.tokens for one, has in zip(before, known, strict=True) if one and has)
        self.warmed.tokens += had + sum(len(one.ids) for one in made)
        self.warmed.documents += len(batch)
        self.warmed.documents_sent += len(rest)
        self.left_out += len(batch) - len(rest)
        return made

    def _remembered(self, batch: list[Document], keys: list[bytes]) -> list[Tokenised | None]:
        if self._digests is None:
            found: list[Tokenised | None] = [None] * len(batch)
        else:
            found = self._digests.find(keys)
        return [
            Tokenised.of(one.ids) if isinstance(one, Ids) else was
            for one, was in zip(batch, found, strict=True)
        ]

    def _remember(self, keys: list[bytes], made: list[Tokens]) -> None:
        if self._digests is not None:
            texts = [(key, one) for key, one in zip(keys, made, strict=True) if key]
            self._digests.keep(
                [key for key, _ in texts], [Tokenised.of(one.ids) for _, one in texts]
            )

    def _known(self, before: list[Tokenised | None]) -> list[bool]:
        asked = [one.digest for one in before if one is not None]
        if not asked:
            return [False] * len(before)
        answers = iter(self._client.known_documents(self._namespace, self._corpus, asked))
        return [one is not None and next(answers) for one in before]

    def _messages(self, made: list[Tokens]) -> Iterator[pb.WarmRequest]:
        message: list[Tokens] = []
        tokens = 0
        for one in made:
            if message and (
                tokens + len(one.ids) > MESSAGE_TOKENS or len(message) == MESSAGE_DOCUMENTS
            ):
                yield self._message(message)
                message, tokens = [], 0
            message.append(one)
            tokens += len(one.ids)
        if message:
            yield self._message(message)

    def _message(self, some: list[Tokens]) -> pb.WarmRequest:
        return pb.WarmRequest(
            namespace=self._namespace,
            corpus=self._corpus,
            document_offsets=encode_offsets(len(one.ids) for one in some),
            tokens=b"".join(int32s(one.ids).tobytes() for one in some),
            document_names=[one.name for one in some],
        )
