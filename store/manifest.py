"""What a snapshot is, as bytes: the journal position, the numbers of batches, and where its arrays lie.

Msgpack behind a schema version and a CRC-32, as everything that is stored. Knows nothing of Redis.
"""

import struct
import zlib

import msgspec

from retrieval_draft.errors import Corrupt, FailedPrecondition
from retrieval_draft.store.journal_position import JournalPosition
from retrieval_draft.store.learned_image import Scalars, Shape

SCHEMA_VERSION = 1
_HEADER = struct.Struct("<BI")


class StoredArray(msgspec.Struct, frozen=True, array_like=True):
    """An array of the learned tier in pieces of PIECE_BYTES (the last one less), each a zstd frame."""

    shape: Shape
    digests: tuple[str, ...]


class Manifest(msgspec.Struct, frozen=True, array_like=True):
    """One generation. A namespace that is created again has another incarnation: its own snapshots."""

    generation: int
    incarnation: str
    position: JournalPosition
    # Last batch number of each replica, the most recently heard one at the end.
    numbers: dict[str, int]
    scalars: Scalars
    arrays: dict[str, StoredArray]
    stored_bytes: int
    unix_seconds: float

    @property
    def digests(self) -> set[str]:
        """The blocks that it needs."""
        return {digest for array in self.arrays.values() for digest in array.digests}


_decoder = msgspec.msgpack.Decoder(Manifest)
_encoder = msgspec.msgpack.Encoder()


def encode_manifest(manifest: Manifest) -> bytes:
    """The manifest as stored."""
    return framed(_encoder.encode(manifest), SCHEMA_VERSION)


def decode_manifest(data: bytes) -> Manifest:
    """The manifest of these bytes. Corrupt if they are damaged, FailedPrecondition if not ours."""
    body = unframed(data, SCHEMA_VERSION, "snapshot")
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt(f"a snapshot's manifest does not decode: {error}") from error


def framed(body: bytes, version: int) -> bytes:
    """The body behind its version and checksum."""
    return _HEADER.pack(version, zlib.crc32(body)) + body


def unframed(data: bytes, version: int, what: str) -> bytes:
    """The body. Corrupt if it is damaged, FailedPrecondition if it is of another version."""
    if len(data) < _HEADER.size:
        raise Corrupt(f"a {what} of {len(data)} bytes")
    found, checksum = _HEADER.unpack_from(data)
    body = data[_HEADER.size :]
    if zlib.crc32(body) != checksum:
        raise Corrupt(f"a {what} whose checksum does not fit its {len(body)} bytes")
    if found != version:
        raise FailedPrecondition(
            f"a {what} of schema version {found}; this program reads {version}"
        )
    return body
