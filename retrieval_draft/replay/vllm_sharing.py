"""What one vLLM learns from another: two processes, disjoint prompts, one sidecar or one Redis.

Both are up before A decodes its half, as engines are that share: what B drafts from has come to it
meanwhile. Accepted lengths are functions of texts and of what has arrived.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from retrieval_draft.replay.vllm_arms import Run
from retrieval_draft.replay.vllm_peer import VllmPeer

ARRIVAL_SECONDS = 2.0
"""From A's last record being kept until B has surely read it: it takes milliseconds."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """B on its half of the prompts, alone and after A has decoded the other half."""

    through: str
    tokens_max: int
    suffix: float
    alone: float
    after: float
    suffix_mat: float
    alone_mat: float
    after_mat: float
    digests_equal: bool


class Pair:
    """A and B, two processes with our drafter; they start while the caller goes on."""

    def __init__(self, model: Path, tokens_max: int, concurrency: int, stack: ExitStack) -> None:
        self._tokens_max, self._concurrency = tokens_max, concurrency
        self._a = stack.enter_context(VllmPeer(model, tokens_max, concurrency))
        self._b = stack.enter_context(VllmPeer(model, tokens_max, concurrency))

    def shared(
        self,
        through: str,
        halves: tuple[list[list[int]], list[list[int]]],
        tokens: int,
        suffix: Run,
        fresh: Callable[[], dict[str, object]],
    ) -> Sharing:
        """`fresh` gives settings with a namespace that nobody has used; `suffix` decoded B's half."""
        first, second = halves
        self._b.join(fresh())
        alone = self._b.decode(second, tokens, self._concurrency)
        settings = fresh()
        self._b.join(settings)
        self._a.join(settings)
        self._a.decode(first, tokens, self._concurrency)
        self._a.join(None)
        time.sleep(ARRIVAL_SECONDS)
        after = self._b.decode(second, tokens, self._concurrency)
        self._b.join(None)
        return Sharing(
            through,
            self._tokens_max,
            suffix.accepted_length,
            alone.accepted_length,
            after.accepted_length,
            suffix.mat,
            alone.mat,
            after.mat,
            alone.digest == after.digest == suffix.digest,
        )
