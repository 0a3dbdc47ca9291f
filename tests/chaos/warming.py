"""A process that only stores: one document a block, each number printed when it is acknowledged.

    python warming.py FOLDER      on the embedded server of this data folder
    python warming.py FOLDER URL  on a Redis that others started

First it prints `redis PID FSYNC`, then one `held N` for every document that was there, then `ready`,
then `N` for each that it stores, without end. What is refused for now is tried again.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from retrieval_draft.errors import NotFound, Unreachable
from retrieval_draft.store.connection import connect
from retrieval_draft.store.embedded import EmbeddedRedis
from retrieval_draft.store.folder import DataFolder
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.records import Block, BlockDocument, NamespaceSpec, document_digest
from retrieval_draft.store.redis_backend import RedisBackend

KEY, CORPUS = NamespaceKey("local", "chaos"), "docs"


def block(number: int) -> Block:
    tokens = number.to_bytes(4, "little") * 16
    return Block((BlockDocument(str(number), document_digest(tokens), 16),), tokens)


def main(folder: Path, url: str) -> None:
    process = 0
    if not url:
        server = EmbeddedRedis(DataFolder(folder))
        server.start()
        url, process = server.url, server.pid
    backend = RedisBackend(url, "redis" if process == 0 else "embedded")
    backend.create_namespace(KEY, NamespaceSpec("chaos", 2**31 - 1))
    client = connect(url)
    say(f"redis {process} {client.config_get('appendfsync')['appendfsync']}")
    client.close()
    held = sorted(int(name) for name in names_of(backend))
    for number in held:
        say(f"held {number}")
    say("ready")
    number = max(held, default=-1) + 1
    while True:
        try:
            backend.corpora.put_block(KEY, CORPUS, block(number))
        except Unreachable:
            continue
        say(str(number))
        number += 1


def names_of(backend: RedisBackend) -> Iterator[str]:
    """The documents that are stored, whole."""
    try:
        stored = backend.corpora.content(KEY, CORPUS).pending
    except NotFound:
        return
    for _, kept in backend.corpora.pending(KEY, CORPUS, list(stored)):
        if kept is not None:
            yield from (document.name for document in kept.documents)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "")
