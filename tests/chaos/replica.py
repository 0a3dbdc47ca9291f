"""A replica without drafting: it appends records, applies the journal, and answers for it.

    python replica.py URL NAME

It appends small random records, about RECORDS_PER_SECOND, until a line `stop` comes. Each line
`report` is answered with one line of JSON.
"""

import random
import sys
import threading

import msgspec

from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.learned import LearnedTier
from retrieval_draft.store.learned_image import LearnedImage
from retrieval_draft.store.records import Batch, NamespaceSpec, Record
from retrieval_draft.store.redis_backend import RedisBackend

KEY = NamespaceKey("local", "chaos")
VOCAB = 500
SPEC = NamespaceSpec("chaos", VOCAB, learned_bytes_max=4 << 20)
RECORDS_PER_SECOND = 3_000
BURST = 50


class Report(msgspec.Struct, frozen=True):
    """Where this replica stands. `applied` counts records; `twice` those that came again."""

    applied: int
    twice: int
    digest: str
    entry_id: str
    appended: int
    dropped: int
    gaps: int
    lag: int


class Applied:
    """The listener: a learned tier, and whether anything came twice."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.begin()

    def begin(self) -> None:
        self.tier = LearnedTier(VOCAB, SPEC.learned_bytes_max)
        self.seen: set[tuple[str, int]] = set()
        self.twice, self.entry_id = 0, ""

    def namespace_changed(self, key: NamespaceKey, spec: NamespaceSpec | None) -> None:
        with self.lock:
            self.begin()

    def corpus_changed(self, key: NamespaceKey, corpus: str) -> None:
        pass

    def apply(self, key: NamespaceKey, entry_id: str, batch: Batch) -> None:
        with self.lock:
            for record in batch.records:
                name = (batch.replica, record.position)
                self.twice += name in self.seen
                self.seen.add(name)
            self.tier.apply(batch)
            self.entry_id = entry_id

    def learned(self, key: NamespaceKey) -> LearnedTier | None:
        """No snapshots here: every record is counted, from the first."""
        return None

    def load_learned(self, key: NamespaceKey, entry_id: str, image: LearnedImage) -> None:
        raise AssertionError("nothing was saved")


def main(url: str, name: str) -> None:
    applied, stop = Applied(), threading.Event()
    backend = RedisBackend(url)
    backend.create_namespace(KEY, SPEC)
    backend.start(name, applied)

    def append() -> None:
        dice, position = random.Random(), 0  # noqa: S311 - a test's
        while not stop.wait(BURST / RECORDS_PER_SECOND):
            for _ in range(BURST):
                tokens = b"".join(dice.randrange(VOCAB).to_bytes(4, "little") for _ in range(4))
                backend.append(KEY, Record(1, position, tokens=tokens))
                position += 1

    appending = threading.Thread(target=append, daemon=True)
    appending.start()
    for line in sys.stdin:
        if line.strip() == "stop":
            stop.set()
            appending.join()
        figures = backend.figures(KEY)
        with applied.lock:
            report = Report(
                len(applied.seen),
                applied.twice,
                applied.tier.digest() if stop.is_set() else "",
                applied.entry_id,
                figures.appended,
                figures.dropped,
                figures.gaps,
                figures.lag_records,
            )
        sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
