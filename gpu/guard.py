"""The guard that keeps a drafter's failures out of decoding."""

import logging
from collections.abc import Callable
from typing import TypeVar, Unpack

from retrieval_draft.drafter import Drafter, Opening
from retrieval_draft.step import Rows
from retrieval_draft.tree import DraftTree, Int32Array

FAILURES_LOGGED_MAX = 10

Result = TypeVar("Result")
logger = logging.getLogger(__name__)


class Guard:
    """Exceptions of what it runs end here, and are logged the first few times."""

    def __init__(self, name: str = "drafter") -> None:
        self.name, self.failures = name, 0

    def run(self, call: str, action: Callable[[], Result], otherwise: Result) -> Result:
        try:
            return action()
        except Exception as error:  # a drafter is a plug-in: whatever it raises, decoding goes on
            self.log(call, f"{type(error).__name__}: {error}")
            return otherwise

    def log(self, call: str, problem: str) -> None:
        self.failures += 1
        if self.failures <= FAILURES_LOGGED_MAX:
            logger.warning("%s failed call=%s problem=%s", self.name, call, problem)


class GuardedDrafter:
    """A drafter whose exceptions end here: they cost drafts, never a token."""

    def __init__(self, drafter: Drafter) -> None:
        self._drafter = drafter
        self._guard = Guard()

    @property
    def observation_width(self) -> int:
        return self._guard.run("observation_width", lambda: self._drafter.observation_width, 0)

    @property
    def hidden_width(self) -> int:
        return self._guard.run("hidden_width", lambda: self._drafter.hidden_width, 0)

    def open(self, sequence_id: str, tokens: Int32Array, **opening: Unpack[Opening]) -> None:
        self._guard.run("open", lambda: self._drafter.open(sequence_id, tokens, **opening), None)

    def commit(
        self, sequence_id: str, tokens: Int32Array, accepted: int, rows: Rows | None
    ) -> None:
        self._guard.run(
            "commit", lambda: self._drafter.commit(sequence_id, tokens, accepted, rows), None
        )

    def draft(self, nodes_max: dict[str, int]) -> dict[str, DraftTree]:
        return self._guard.run("draft", lambda: dict(self._drafter.draft(nodes_max)), {})

    def finish(self, sequence_id: str) -> None:
        self._guard.run("finish", lambda: self._drafter.finish(sequence_id), None)

    def usable(self, tree: DraftTree, vocab_size: int, nodes_max: int) -> bool:
        """Whether a drafter's answer is a tree that may be verified."""

        def find_problem() -> str | None:
            if not isinstance(tree, DraftTree) or tree.token.ndim != 1 or tree.parent.ndim != 1:
                return "not a draft tree"
            if tree.token.dtype.kind != "i" or tree.parent.dtype.kind != "i":
                return f"tokens of type {tree.token.dtype}, parents of type {tree.parent.dtype}"
            return tree.problem(vocab_size, nodes_max)

        unreadable: str | None = "not a draft tree"
        problem = self._guard.run("draft", find_problem, unreadable)
        if problem is not None:
            self._guard.log("draft", problem)
        return problem is None
