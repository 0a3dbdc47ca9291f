"""How soon a sidecar is ready that has a corpus on its disk, and in how much memory (Linux)."""

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from retrieval_draft.errors import FailedPrecondition
from retrieval_draft.store.corpora import SegmentEntry
from retrieval_draft.store.embedded import EmbeddedRedis
from retrieval_draft.store.folder import DataFolder
from retrieval_draft.store.folder_blocks import FolderBlocks
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.records import Block, BlockDocument, NamespaceSpec, document_digest
from retrieval_draft.store.redis_backend import RedisBackend
from retrieval_draft.store.segment import Segment
from retrieval_draft.tree import int32s

KEY = NamespaceKey("local", "bench")
CORPUS = "bench"
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Started:
    """`retrieval-draft serve` on a data folder, from the process's start to its line `serving on`.

    Medians of ROUNDS starts each, with the corpus and without; kernels are compiled before.
    """

    seconds: float
    seconds_without: float
    rss_bytes: int
    rss_bytes_without: int


def started(segment: Path, vocab_size: int, folder: Path) -> Started:
    """Start a sidecar on two data folders below `folder`, one of which holds this segment as a corpus."""
    place(segment, vocab_size, folder / "with")
    place(None, vocab_size, folder / "without")
    serve(folder / "without")
    rounds = [(serve(folder / "with"), serve(folder / "without")) for _ in range(ROUNDS)]
    median = ROUNDS // 2
    return Started(
        sorted(seconds for (seconds, _), _ in rounds)[median],
        sorted(seconds for _, (seconds, _) in rounds)[median],
        sorted(rss for (_, rss), _ in rounds)[median],
        sorted(rss for _, (_, rss) in rounds)[median],
    )


def place(path: Path | None, vocab_size: int, data: Path) -> None:
    """A data folder with a namespace, and with this segment as its corpus."""
    folder = DataFolder(data)
    server = EmbeddedRedis(folder)
    try:
        server.start()
        blocks = FolderBlocks(folder.path / "blocks")
        backend = RedisBackend(server.url, name="embedded", blocks=blocks)
        backend.create_namespace(KEY, NamespaceSpec(KEY.namespace, vocab_size))
        if path is not None:
            segment = Segment.open(path)
            entry = SegmentEntry(
                blocks.put_file(KEY, path), segment.documents, segment.token_count, segment.nbytes
            )
            segment.close()
            # A corpus begins with a block of documents; here the segment stands for it at once.
            tokens = int32s([0]).tobytes()
            document = BlockDocument("", document_digest(tokens), 1)
            backend.corpora.put_block(KEY, CORPUS, Block((document,), tokens))
            built = backend.corpora.content(KEY, CORPUS).pending
            backend.corpora.switch(KEY, CORPUS, (), (entry,), list(built))
            backend.corpora.publish(KEY, CORPUS)
        backend.stop(1.0)
    finally:
        server.stop()
        folder.close()


def serve(data: Path) -> tuple[float, int]:
    """Seconds until it serves, and its resident bytes then."""
    command = [sys.executable, "-m", "retrieval_draft", "serve", "--data", str(data)]
    began = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603 - this very program
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - began
        if not line.startswith("serving on"):
            raise FailedPrecondition("the sidecar did not start")
        status = Path(f"/proc/{process.pid}/status").read_text()
        (resident,) = [row for row in status.splitlines() if row.startswith("VmRSS:")]
        return seconds, int(resident.split()[1]) * 1024
    finally:
        process.terminate()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
