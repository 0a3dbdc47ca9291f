"""Answers whose size tells little: filled to a power of two of bytes (`serve --pad-drafts`).

After the mitigation of Wei et al., "When Speculation Spills Secrets" (arXiv 2411.01076): over TLS, an
answer's length would else tell how many nodes were drafted.
"""

from retrieval_draft.config import MESSAGE_BYTES_MAX
from retrieval_draft.v1 import draft_pb2 as pb

BYTES_MIN = 256
"""The smallest size; an empty tree of one sequence and a small one look alike."""
EMPTY_BYTES = 2
"""What an entry of `padding` takes without content: its tag and its length."""
_VARINT_BITS = 7


def pad(message: pb.DraftResponse) -> pb.DraftResponse:
    """Add `padding` so that the message has a power of two of bytes, BYTES_MIN at least; returns it.

    One too large for that below MESSAGE_BYTES_MAX stays as it is. Costs as much as it adds.
    """
    size = message.ByteSize() + EMPTY_BYTES
    bucket = max(BYTES_MIN, 1 << (size - 1).bit_length())
    if bucket > MESSAGE_BYTES_MAX:
        return message
    room = bucket - size + EMPTY_BYTES
    if (content := _content(room)) is None:
        # One byte more of content would take two: an empty entry before it takes the rest.
        message.padding.append(b"")
        content = _content(room - EMPTY_BYTES) or 0
    message.padding.append(bytes(content))
    return message


def _content(room: int) -> int | None:
    """How long the content of an entry is that takes `room` bytes in all, if there is such a one."""
    for length_bytes in range(1, 6):
        content = room - 1 - length_bytes
        if content >= 0 and max(1, -(-content.bit_length() // _VARINT_BITS)) == length_bytes:
            return content
    return None
