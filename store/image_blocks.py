"""A learned image as compressed blocks, and back."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from retrieval_draft.errors import Corrupt
from retrieval_draft.store.blocks import PIECE_BYTES, Blocks, block_digest
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.learned_image import Array, LearnedImage, Scalars, shape_of
from retrieval_draft.store.manifest import StoredArray

LEVEL = 1
PIECES_AT_ONCE = 16


def store_image(
    blocks: Blocks, key: NamespaceKey, image: LearnedImage, announce: Callable[[list[str]], None]
) -> tuple[dict[str, StoredArray], int]:
    """Put the arrays; returns where they are and their compressed bytes.

    `announce` hears digests before they are put, and may raise to end it.
    """
    stored: dict[str, StoredArray] = {}
    sizes: dict[str, int] = {}
    for name, array in image.arrays.items():
        digests: list[str] = []
        for group in compressed(array):
            names = [block_digest(piece) for piece in group]
            announce(names)
            for piece in group:
                digests.append(blocks.put(key, piece))
                sizes[digests[-1]] = len(piece)
        stored[name] = StoredArray(shape_of(array), tuple(digests))
    return stored, sum(sizes.values())


def load_image(
    scalars: Scalars, stored: Mapping[str, StoredArray], read: Callable[[str], bytes]
) -> LearnedImage:
    """The arrays again, from `read` of each digest. Corrupt if pieces are not what they should be.

    Trust nothing in it but sizes: those are checked by who asks, before, with `check_fits`.
    """
    return LearnedImage(scalars, {name: _array(name, one, read) for name, one in stored.items()})


def _array(name: str, stored: StoredArray, read: Callable[[str], bytes]) -> Array:
    import zstandard

    left = stored.shape.nbytes
    whole = bytearray(left)
    at = 0
    decompressor = zstandard.ZstdDecompressor()
    if len(stored.digests) != -(-left // PIECE_BYTES):
        raise Corrupt(f"{name} of {left} bytes in {len(stored.digests)} pieces")
    for digest in stored.digests:
        size = min(PIECE_BYTES, len(whole) - at)
        try:
            with decompressor.stream_reader(read(digest), closefd=False) as reader:
                piece = reader.read(size + 1)
        except zstandard.ZstdError as error:
            raise Corrupt(f"{name}: block {digest} does not decompress: {error}") from error
        if len(piece) != size:
            raise Corrupt(f"{name}: block {digest} does not hold {size} bytes")
        whole[at : at + size] = piece
        at += size
    return np.frombuffer(whole, np.dtype(stored.shape.dtype)).reshape(stored.shape.lengths)


def compressed(array: Array) -> Iterator[list[bytes]]:
    """The array's pieces, some at a time."""
    import zstandard

    compressor = zstandard.ZstdCompressor(level=LEVEL)
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    step = PIECE_BYTES * PIECES_AT_ONCE
    for at in range(0, len(data), step):
        part = data[at : at + step]
        yield [
            compressor.compress(part[first : first + PIECE_BYTES].data)
            for first in range(0, len(part), PIECE_BYTES)
        ]
