"""Places in a journal. Ids of entries are those of a Redis stream, `milliseconds-sequence`, and rise."""

import msgspec

BEGINNING = "0-0"
"""Before every entry."""
ENTRY_OVERHEAD_BYTES = 64
"""What an entry costs beside its payload."""


class JournalPosition(msgspec.Struct, frozen=True, array_like=True):
    """Behind the last applied entry, and what came up to it, counted from the journal's beginning."""

    entry_id: str = BEGINNING
    bytes: int = 0
    tokens: int = 0


def order_of(entry_id: str) -> tuple[int, int]:
    """Ids in the order of their entries."""
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds or 0), int(sequence or 0)
