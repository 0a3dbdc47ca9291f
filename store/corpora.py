"""What the shared store holds of a corpus: pending blocks of documents, and the segments built of others."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Protocol

import msgspec

from retrieval_draft.errors import Corrupt
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.records import DIGEST_BYTES, Block


class SegmentEntry(msgspec.Struct, frozen=True, array_like=True):
    """One segment of a corpus: its block, and what it holds."""

    digest: str
    documents: int
    tokens: int
    bytes: int


class PendingEntry(msgspec.Struct, frozen=True, array_like=True):
    """One block of documents that is in no segment yet: its tokens, and its documents' digests joined."""

    tokens: int
    digests: bytes

    @property
    def documents(self) -> int:
        return len(self.digests) // DIGEST_BYTES

    def each(self) -> list[bytes]:
        """The documents' digests."""
        starts = range(0, len(self.digests), DIGEST_BYTES)
        return [self.digests[at : at + DIGEST_BYTES] for at in starts]

    @classmethod
    def of(cls, block: Block) -> "PendingEntry":
        digests = b"".join(document.digest for document in block.documents)
        return cls(sum(document.tokens for document in block.documents), digests)


@dataclass(frozen=True, slots=True)
class StoredContent:
    """A corpus in the shared store at one moment. `pending` is by block digest."""

    segments: tuple[SegmentEntry, ...]
    pending: dict[bytes, PendingEntry]
    is_published: bool

    @property
    def tokens(self) -> int:
        """Of all documents, in segments or not."""
        built = sum(segment.tokens for segment in self.segments)
        return built + self.pending_tokens

    @property
    def pending_tokens(self) -> int:
        return sum(entry.tokens for entry in self.pending.values())


class Corpora(Protocol):
    """The part of a Backend that stores corpora; see there for what its management calls raise."""

    def put_block(self, key: NamespaceKey, corpus: str, block: Block) -> bool:
        """Store a block of documents; False if it is pending already. Drafts see it once it was built."""
        ...

    def pending(
        self, key: NamespaceKey, corpus: str, digests: Collection[bytes]
    ) -> Iterator[tuple[bytes, Block | None]]:
        """These pending blocks, one in memory at a time; None for a damaged one. Gone ones are left out."""
        ...

    def content(self, key: NamespaceKey, corpus: str) -> StoredContent:
        """What is stored of the corpus now, or NotFound."""
        ...

    def names(self, key: NamespaceKey) -> list[str]:
        """The names of the corpora that hold something, published or not, sorted."""
        ...

    def known_documents(
        self, key: NamespaceKey, corpus: str, digests: Collection[bytes]
    ) -> set[bytes]:
        """Which of these documents are stored."""
        ...

    def switch(
        self,
        key: NamespaceKey,
        corpus: str,
        before: tuple[SegmentEntry, ...],
        after: tuple[SegmentEntry, ...],
        built: Collection[bytes],
        lost: Collection[bytes] = (),
    ) -> bool:
        """Put `after` in place of the segments `before` and remove the pending blocks `built`, at once.

        The documents of the `lost` ones among these, which were damaged, may be warmed again. Every
        replica is told. False, and nothing done, if the corpus has other segments by now or a block of
        `built` is not pending. NotFound if it was deleted.
        """
        ...

    def claim(self, key: NamespaceKey, corpus: str, owner: str, seconds: float) -> bool:
        """Whether `owner` alone may build for so long; renews a claim that it holds."""
        ...

    def release(self, key: NamespaceKey, corpus: str, owner: str) -> None:
        """Give a claim back."""
        ...

    def delete(self, key: NamespaceKey, corpus: str) -> None:
        """Remove it with its segments, and tell every replica; NotFound if there is none."""
        ...

    def publish(self, key: NamespaceKey, corpus: str) -> None:
        """Have every replica draw from the corpus, and one build what is pending; NotFound if none."""
        ...


def listed(corpora: Corpora, key: NamespaceKey) -> set[str]:
    """The segments of all corpora of the namespace: two of the same documents may share one."""
    contents = [corpora.content(key, name) for name in corpora.names(key)]
    return {entry.digest for content in contents for entry in content.segments}


_segments = msgspec.msgpack.Decoder(tuple[SegmentEntry, ...])
_pending = msgspec.msgpack.Decoder(PendingEntry)


def encode_segments(segments: tuple[SegmentEntry, ...]) -> bytes:
    """As stored."""
    return msgspec.msgpack.encode(segments)


def decode_segments(data: bytes | None) -> tuple[SegmentEntry, ...]:
    """The segments; none for no data. Raises Corrupt."""
    try:
        return _segments.decode(data) if data else ()
    except msgspec.DecodeError as error:
        raise Corrupt(f"a corpus's list of segments: {error}") from error


def encode_pending(entry: PendingEntry) -> bytes:
    """As stored."""
    return msgspec.msgpack.encode(entry)


def decode_pending(data: bytes) -> PendingEntry:
    """The entry. Raises Corrupt."""
    try:
        return _pending.decode(data)
    except msgspec.DecodeError as error:
        raise Corrupt(f"a corpus's list of pending blocks: {error}") from error
