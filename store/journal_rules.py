"""How much of a namespace's journal is kept, and when its learned tier is saved."""

from dataclasses import dataclass

GENERATIONS_KEPT = 2


@dataclass(frozen=True, slots=True)
class JournalRules:
    """Of every namespace. A journal is trimmed behind the older of its two snapshots."""

    journal_bytes_max: int = 256 << 20
    """Beyond it the oldest entries go whether or not a snapshot holds them."""
    snapshot_tokens: int = 1_000_000
    """So many journalled tokens after a snapshot any replica takes the next one: a start replays a
    second or two of applying for each 200,000. 0 = only when asked."""
    snapshot_bytes: int = 32 << 20
    """Or so many bytes of journal, whichever comes first."""
    stop_tokens: int = 20_000
    """A replica that stops takes one if so many tokens came after the last; 0 = never."""
