"""Which document a text became when it was tokenised before: repeated and interrupted warmings skip it.

A cache, not a record of what was warmed: that, the sidecar is asked. Losing it costs time alone.
"""

import hashlib
import logging
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from retrieval_draft.store.records import document_digest
from retrieval_draft.tree import Int32Array, int32s

_log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS texts (
  text BLOB PRIMARY KEY, document BLOB NOT NULL, tokens INTEGER NOT NULL
) WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True)
class Tokenised:
    """A document as the sidecar knows it: the digest of its tokens, and how many they are."""

    digest: bytes
    tokens: int

    @classmethod
    def of(cls, ids: Int32Array) -> "Tokenised":
        return cls(document_digest(int32s(ids).tobytes()), len(ids))


def text_digest(text: str) -> bytes:
    """What a text is looked up by."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def default_folder() -> Path:
    """XDG_CACHE_HOME/retrieval-draft, by default in ~/.cache."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "retrieval-draft"


class Digests:
    """Of one tokenizer, in a SQLite file that several processes may use; bounded memory.

    Whatever is wrong with the file, it only remembers nothing: no call raises.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._database: sqlite3.Connection | None = None
        path = folder / f"texts-{fingerprint[:32]}.sqlite"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Made here, used by the thread that feeds the call.
            self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)

    def find(self, texts: Sequence[bytes]) -> list[Tokenised | None]:
        """What these texts became, None where it is not known."""
        found: list[Tokenised | None] = []
        # Its own name: close may be called meanwhile, by the thread that gave up.
        if (database := self._database) is not None:
            try:
                for text in texts:
                    row = database.execute(
                        "SELECT document, tokens FROM texts WHERE text = ?", (text,)
                    ).fetchone()
                    found.append(Tokenised(bytes(row[0]), int(row[1])) if row else None)
            except (sqlite3.Error, TypeError, ValueError) as error:
                self._give_up(error)
        return found + [None] * (len(texts) - len(found))

    def keep(self, texts: Sequence[bytes], documents: Sequence[Tokenised]) -> None:
        """Remember what these texts became."""
        if (database := self._database) is None:
            return
        rows = [(text, one.digest, one.tokens) for text, one in zip(texts, documents, strict=True)]
        try:
            with database:
                database.execute("BEGIN")
                database.executemany("INSERT OR REPLACE INTO texts VALUES (?, ?, ?)", rows)
        except sqlite3.Error as error:
            self._give_up(error)

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _give_up(self, error: Exception) -> None:
        _log.warning("what was tokenised before is not remembered: %s", error)
        self.close()
