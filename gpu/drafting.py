"""What the decoder asks of a drafter, and the guard that keeps its failures out of decoding."""

import logging
from collections.abc import Callable
from typing import Protocol, TypeVar

from retrieval_draft.step import Learning, Rows
from retrieval_draft.tree import DraftTree, Int32Array

FAILURES_LOGGED_MAX = 10

Result = TypeVar("Result")
logger = logging.getLogger(__name__)


class Drafter(Protocol):
    """Drafts for the sequences of one decoder. Never raises, never blocks past its own deadline."""

    @property
    def observation_width(self) -> int:
        """How many of the target's most probable tokens it wants per row; 0 = send none."""
        ...

    def open(
        self,
        sequence_id: str,
        tokens: Int32Array,
        *,
        rows: Rows | None,
        temperature: float | None,
        length_max: int,
        end_tokens: tuple[int, ...],
        learning: Learning,
        corpora: tuple[str, ...],
    ) -> None:
        """A sequence begins with this prompt, prefilled; no token of it will pass `length_max`."""
        ...

    def commit(
        self, sequence_id: str, tokens: Int32Array, accepted: int, rows: Rows | None
    ) -> None:
        """`tokens` were committed; `accepted` of its last tree's nodes stayed, -1 = unknown."""
        ...

    def draft(self, nodes_max: dict[str, int]) -> dict[str, DraftTree]:
        """Trees of at most so many nodes for these sequences; whoever is missing gets none."""
        ...

    def finish(self, sequence_id: str) -> None:
        """The sequence is over, at its end or cut off."""
        ...


class GuardedDrafter:
    """A drafter whose exceptions end here: they cost drafts, never a token."""

    def __init__(self, drafter: Drafter) -> None:
        self._drafter = drafter
        self._failures = 0

    @property
    def observation_width(self) -> int:
        return self._guarded("observation_width", lambda: self._drafter.observation_width, 0)

    def open(
        self,
        sequence_id: str,
        tokens: Int32Array,
        *,
        rows: Rows | None,
        temperature: float | None,
        length_max: int,
        end_tokens: tuple[int, ...],
        learning: Learning,
        corpora: tuple[str, ...],
    ) -> None:
        def call() -> None:
            self._drafter.open(
                sequence_id,
                tokens,
                rows=rows,
                temperature=temperature,
                length_max=length_max,
                end_tokens=end_tokens,
                learning=learning,
                corpora=corpora,
            )

        self._guarded("open", call, None)

    def commit(
        self, sequence_id: str, tokens: Int32Array, accepted: int, rows: Rows | None
    ) -> None:
        self._guarded(
            "commit", lambda: self._drafter.commit(sequence_id, tokens, accepted, rows), None
        )

    def draft(self, nodes_max: dict[str, int]) -> dict[str, DraftTree]:
        return self._guarded("draft", lambda: dict(self._drafter.draft(nodes_max)), {})

    def finish(self, sequence_id: str) -> None:
        self._guarded("finish", lambda: self._drafter.finish(sequence_id), None)

    def usable(self, tree: DraftTree, vocab_size: int, nodes_max: int) -> bool:
        """Whether a drafter's answer is a tree that may be verified."""

        def find_problem() -> str | None:
            if not isinstance(tree, DraftTree) or tree.token.ndim != 1 or tree.parent.ndim != 1:
                return "not a draft tree"
            if tree.token.dtype.kind != "i" or tree.parent.dtype.kind != "i":
                return f"tokens of type {tree.token.dtype}, parents of type {tree.parent.dtype}"
            return tree.problem(vocab_size, nodes_max)

        unreadable: str | None = "not a draft tree"
        problem = self._guarded("draft", find_problem, unreadable)
        if problem is not None:
            self._log("draft", problem)
        return problem is None

    def _guarded(self, call: str, action: Callable[[], Result], otherwise: Result) -> Result:
        try:
            return action()
        except Exception as error:  # a drafter is a plug-in: whatever it raises, decoding goes on
            self._log(call, f"{type(error).__name__}: {error}")
            return otherwise

    def _log(self, call: str, problem: str) -> None:
        self._failures += 1
        if self._failures <= FAILURES_LOGGED_MAX:
            logger.warning("drafter failed call=%s problem=%s", call, problem)
