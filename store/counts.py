"""What the replicas of a namespace have counted together, and when each of them was last heard of.

The store adds integers up under the names it is given, and knows nothing of what they mean.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from retrieval_draft import __version__
from retrieval_draft.errors import Corrupt, InvalidInput

COUNTS_MAX = 2048
COUNT_CHARACTERS_MAX = 64
COUNT_MAX = 1 << 53
"""Of one call, and exact as a sum: Redis' scripts count in doubles."""
REPLICA_SECONDS_KEPT = 86_400.0
REPLICAS_KEPT_MAX = 1024


class Heartbeat(msgspec.Struct, frozen=True, array_like=True):
    """What a replica last said of itself in one namespace; records as in JournalFigures."""

    unix_seconds: float
    version: str = __version__
    written: int = 0
    dropped: int = 0
    lag_records: int = 0


@dataclass(frozen=True, slots=True)
class FleetCounts:
    """Sums over every replica that ever counted here, and the replicas heard of lately, by name."""

    counts: dict[str, int]
    replicas: dict[str, Heartbeat]


def checked_counts(counts: Mapping[str, int]) -> Mapping[str, int]:
    """The counts as given, or InvalidInput: the store is bounded, whoever counts."""
    if len(counts) > COUNTS_MAX:
        raise InvalidInput("counts", len(counts), f"{COUNTS_MAX} names")
    for name, value in counts.items():
        if not 0 < len(name) <= COUNT_CHARACTERS_MAX or not name.isascii():
            raise InvalidInput("counts", name, f"1 to {COUNT_CHARACTERS_MAX} ASCII characters")
        if not 0 <= value <= COUNT_MAX:
            raise InvalidInput(f"counts[{name}]", value, f"0 to {COUNT_MAX}")
    return counts


def add(counts: dict[str, int], more: Mapping[str, int]) -> None:
    """Add up, name by name."""
    for name, value in more.items():
        counts[name] = counts.get(name, 0) + value


def outdated(replicas: Mapping[str, Heartbeat], unix_seconds: float) -> list[str]:
    """The names to forget: silent for longer than REPLICA_SECONDS_KEPT, or too many."""
    by_age = sorted(replicas, key=lambda name: replicas[name].unix_seconds, reverse=True)
    oldest = unix_seconds - REPLICA_SECONDS_KEPT
    return [
        name
        for place, name in enumerate(by_age)
        if place >= REPLICAS_KEPT_MAX or replicas[name].unix_seconds < oldest
    ]


def encode_heartbeat(heartbeat: Heartbeat) -> bytes:
    """As it is stored."""
    return msgspec.msgpack.encode(heartbeat)


def decode_heartbeat(data: bytes) -> Heartbeat:
    """What `encode_heartbeat` was given; Corrupt for anything else."""
    try:
        return msgspec.msgpack.decode(data, type=Heartbeat)
    except msgspec.DecodeError as error:
        raise Corrupt(f"a heartbeat: {error}") from error
