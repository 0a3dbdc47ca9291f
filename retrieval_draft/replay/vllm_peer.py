"""A vLLM with our drafter in a process of its own, that is told line by line what to do.

What two processes learn from each other is measured with two processes. A line is a JSON document: an
order to the child, or what it came to.
"""

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import msgspec

from retrieval_draft.errors import Unreachable
from retrieval_draft.replay.vllm_arms import OURS, Run, VllmEngine
from retrieval_draft.replay.vllm_turns import Decoding

STOP_SECONDS_MAX = 60.0

_Answer = TypeVar("_Answer")


class Join(msgspec.Struct, tag=True):
    """Draft with these settings from now on; without any, leave, and let what was learned be kept."""

    settings: dict[str, object] | None


class Decode(msgspec.Struct, tag=True):
    """Every prompt once, greedily."""

    prompts: list[list[int]]
    tokens: int
    concurrency: int


class VllmPeer:
    """The child's process. It starts while the caller goes on; the first order waits for it."""

    def __init__(self, model: Path, tokens_max: int, sequences_max: int) -> None:
        command = [sys.executable, "-m", __name__, str(model), str(tokens_max), str(sequences_max)]
        self._process = subprocess.Popen(  # noqa: S603 - our own command
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __enter__(self) -> "VllmPeer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def join(self, settings: dict[str, object] | None) -> None:
        """Returns when its drafter is up, or has left."""
        self._told(Join(settings), type(None))

    def decode(self, prompts: list[list[int]], tokens: int, concurrency: int) -> Run:
        return self._told(Decode(prompts, tokens, concurrency), Run)

    def _told(self, order: Join | Decode, kind: type[_Answer]) -> _Answer:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(msgspec.json.encode(order) + b"\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise Unreachable(f"a vLLM of its own process ended: {self._process.wait()}")
        return msgspec.json.decode(line, type=kind)


def main(model: str, tokens_max: str, sequences_max: str) -> None:
    """Obey until the orders end."""
    # vLLM and its libraries print what they like: not between our answers.
    with os.fdopen(os.dup(1), "wb", buffering=0) as answers:
        os.dup2(2, 1)
        engine = VllmEngine(OURS, Path(model), int(tokens_max), int(sequences_max))
        for line in sys.stdin.buffer:
            order = msgspec.json.decode(line, type=Join | Decode)
            done: Run | None = None
            if isinstance(order, Join):
                engine.renew(order.settings)
            else:
                done = Decoding(engine, order.prompts, order.tokens, order.concurrency).to_end()
            answers.write(msgspec.json.encode(done) + b"\n")
        engine.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
