"""A namespace's learned tier as one file, to be carried from one cluster to another.

A mark and a version, then frames behind their lengths: the description, every block once in the order
of its first use, an empty frame, and the digest of all before it. Read only as a whole: a file that is
cut short or changed anywhere is Corrupt, before anything is stored.
"""

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator

import msgspec

from retrieval_draft.errors import Corrupt, FailedPrecondition
from retrieval_draft.store.blocks import DIGEST_BYTES, block_digest
from retrieval_draft.store.image_blocks import compressed, load_image
from retrieval_draft.store.learned_image import LearnedImage, Scalars, shape_of
from retrieval_draft.store.manifest import StoredArray
from retrieval_draft.store.records import NamespaceSpec

MARK = b"retrieval-draft namespace\n"
VERSION = 1
FRAME_BYTES_MAX = 64 << 20
_LENGTH = struct.Struct("<I")
_START = struct.Struct(f"<{len(MARK)}sB")


class Description(msgspec.Struct, frozen=True, array_like=True):
    """What the file holds; `arrays` name blocks by digest."""

    spec: NamespaceSpec
    unix_seconds: float
    scalars: Scalars
    arrays: dict[str, StoredArray]


_descriptions = msgspec.msgpack.Decoder(Description)


def written(spec: NamespaceSpec, image: LearnedImage, unix_seconds: float) -> Iterator[bytes]:
    """The file, piece by piece."""
    blocks: dict[str, bytes] = {}
    arrays: dict[str, StoredArray] = {}
    for name, array in image.arrays.items():
        pieces = [piece for group in compressed(array) for piece in group]
        digests = [block_digest(piece) for piece in pieces]
        blocks.update(zip(digests, pieces, strict=True))
        arrays[name] = StoredArray(shape_of(array), tuple(digests))
    described = Description(spec, unix_seconds, image.scalars, arrays)
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in (
        _START.pack(MARK, VERSION),
        *_framed(msgspec.msgpack.encode(described)),
        *(part for block in blocks.values() for part in _framed(block)),
        *_framed(b""),
    ):
        digest.update(part)
        yield part
    yield digest.digest()


def read(pieces: Iterable[bytes], accept: Callable[[Description], None]) -> LearnedImage:
    """What the namespace had learned.

    `accept` hears the description first and may raise: only what it lets pass is unpacked. Raises Corrupt
    for a damaged file and FailedPrecondition for another version of it.
    """
    source = _Source(pieces, FRAME_BYTES_MAX)
    mark, version = _START.unpack(source.take(_START.size))
    if mark != MARK:
        raise Corrupt("it is no exported namespace")
    if version != VERSION:
        raise FailedPrecondition(f"a file of version {version}; this program reads {VERSION}")
    head = source.frame()
    described = _described(head)
    accept(described)
    source.allow(sum(array.shape.nbytes for array in described.arrays.values()))
    blocks: dict[str, bytes] = {}
    while block := source.frame():
        blocks[block_digest(block)] = block
    digest = source.digest()
    if source.take(DIGEST_BYTES) != digest or not source.is_at_end():
        raise Corrupt("the digest of the file does not fit its content")

    def block_of(name: str) -> bytes:
        if name not in blocks:
            raise Corrupt(f"block {name} is not in the file")
        return blocks[name]

    return load_image(described.scalars, described.arrays, block_of)


def _described(head: bytes) -> Description:
    try:
        return _descriptions.decode(head)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt(f"its description does not decode: {error}") from error


class _Source:
    """Bytes to be taken one after the other from pieces of any size."""

    def __init__(self, pieces: Iterable[bytes], bytes_max: int) -> None:
        self._pieces = iter(pieces)
        self._waiting = bytearray()
        self._left = bytes_max
        self._digest = hashlib.blake2b(digest_size=DIGEST_BYTES)

    def allow(self, more: int) -> None:
        """So many bytes more may come."""
        self._left += more

    def take(self, count: int) -> bytes:
        while len(self._waiting) < count:
            piece = next(self._pieces, None)
            if piece is None:
                raise Corrupt("the file ends before its end")
            self._left -= len(piece)
            if self._left < 0:
                raise Corrupt("the file is larger than what it describes")
            self._waiting += piece
        taken = bytes(self._waiting[:count])
        del self._waiting[:count]
        self._digest.update(taken)
        return taken

    def frame(self) -> bytes:
        (length,) = _LENGTH.unpack(self.take(_LENGTH.size))
        if length > FRAME_BYTES_MAX:
            raise Corrupt(f"a frame of {length} bytes")
        return self.take(length)

    def digest(self) -> bytes:
        """Of all that was taken."""
        return self._digest.digest()

    def is_at_end(self) -> bool:
        return not self._waiting and not any(self._pieces)


def _framed(data: bytes) -> tuple[bytes, bytes]:
    return _LENGTH.pack(len(data)), data
