"""Small drafters with a known plan, and drafters that fail."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Unpack

import numpy as np

from retrieval_draft.drafter import Opening
from retrieval_draft.step import Rows
from retrieval_draft.tree import EMPTY, DraftTree, Int32Array, int32s

Plan = Callable[[list[int]], DraftTree]  # all tokens of a sequence so far -> its tree


@dataclass
class Told:
    """What a drafter was told of one sequence."""

    tokens: list[int]
    rows: list[Rows | None]
    trees: list[DraftTree] = field(default_factory=list)
    # The tree that was the newest when rows[i] came; the prompt's rows have none.
    tree_of_rows: list[DraftTree | None] = field(default_factory=lambda: [None])
    is_finished: bool = False


class ScriptedDrafter:
    """Follows a plan, and checks what it is told: each sequence opened once, finished once."""

    hidden_width = 0

    def __init__(self, plan: Plan, observation_width: int = 0) -> None:
        self.plan, self.observation_width = plan, observation_width
        self.told: dict[str, Told] = {}

    def open(self, sequence_id: str, tokens: Int32Array, **opening: Unpack[Opening]) -> None:
        assert sequence_id not in self.told
        assert opening["temperature"] is not None
        self.told[sequence_id] = Told(tokens.tolist(), [opening["rows"]])

    def commit(
        self, sequence_id: str, tokens: Int32Array, accepted: int, rows: Rows | None
    ) -> None:
        told = self.told[sequence_id]
        assert not told.is_finished
        assert -1 <= accepted <= len(tokens)
        assert accepted <= (len(told.trees[-1]) if told.trees else -1)
        told.tokens.extend(tokens.tolist())
        told.rows.append(rows)
        told.tree_of_rows.append(told.trees[-1] if told.trees else None)

    def draft(self, nodes_max: dict[str, int]) -> dict[str, DraftTree]:
        trees: dict[str, DraftTree] = {}
        for sequence_id, most in nodes_max.items():
            told = self.told[sequence_id]
            assert not told.is_finished
            tree = self.plan(told.tokens)
            cut = tree if len(tree) <= most else tree_of(tree.token[:most], tree.parent[:most])
            trees[sequence_id] = cut
            told.trees.append(trees[sequence_id])
        return trees

    def finish(self, sequence_id: str) -> None:
        assert not self.told[sequence_id].is_finished
        self.told[sequence_id].is_finished = True


class FailingDrafter(ScriptedDrafter):
    """Raises in the calls named."""

    def __init__(self, plan: Plan, calls: set[str]) -> None:
        super().__init__(plan)
        self.calls = calls

    def open(self, sequence_id: str, tokens: Int32Array, **opening: Unpack[Opening]) -> None:
        if "open" in self.calls:
            raise ConnectionError("gone")
        super().open(sequence_id, tokens, **opening)

    def commit(
        self, sequence_id: str, tokens: Int32Array, accepted: int, rows: Rows | None
    ) -> None:
        if "commit" in self.calls:
            raise ConnectionError("gone")
        super().commit(sequence_id, tokens, accepted, rows)

    def draft(self, nodes_max: dict[str, int]) -> dict[str, DraftTree]:
        if "draft" in self.calls:
            raise TimeoutError("no answer")
        return super().draft(nodes_max)

    def finish(self, sequence_id: str) -> None:
        if "finish" in self.calls:
            raise ConnectionError("gone")
        super().finish(sequence_id)


class NonsenseDrafter(ScriptedDrafter):
    """Answers with these trees in turn, whatever was asked."""

    def __init__(self, answers: list[object]) -> None:
        super().__init__(lambda _: EMPTY)
        self.answers, self.asked = answers, 0

    def draft(self, nodes_max: dict[str, int]) -> dict[str, DraftTree]:
        answer = self.answers[self.asked % len(self.answers)]
        self.asked += 1
        if isinstance(answer, Exception):
            raise answer
        return dict.fromkeys([*nodes_max, "never heard of"], answer)  # type: ignore[arg-type]

    def commit(
        self, sequence_id: str, tokens: Int32Array, accepted: int, rows: Rows | None
    ) -> None:
        assert accepted == -1


def tree_of(token: object, parent: object) -> DraftTree:
    """A tree whose probabilities and sources do not matter."""
    return DraftTree(int32s(token), int32s(parent))


def random_tree(generator: np.random.Generator, nodes: int, vocab_size: int) -> DraftTree:
    """Any shape; siblings distinct."""
    token: list[int] = []
    parent: list[int] = []
    taken: set[tuple[int, int]] = set()
    for i in range(nodes):
        edge = (int(generator.integers(-1, i)), int(generator.integers(0, vocab_size)))
        edge = (max(edge[0], -1), edge[1])
        if edge in taken:
            continue
        if edge[0] >= len(token):
            edge = (len(token) - 1, edge[1])
        taken.add(edge)
        parent.append(edge[0])
        token.append(edge[1])
    return tree_of(token, parent)


def random_plan(seed: int, vocab_size: int, nodes: int = 12) -> Plan:
    generator = np.random.default_rng(seed)
    return lambda _: random_tree(generator, int(generator.integers(0, nodes + 1)), vocab_size)


def oracle_plan(outputs: dict[tuple[int, ...], list[int]], depth: int = 5) -> Plan:
    """The right chain; `outputs` is keyed by prompt."""
    return lambda tokens: chain(_rest(outputs, tokens)[:depth])


def wrong_plan(outputs: dict[tuple[int, ...], list[int]], vocab_size: int) -> Plan:
    """Every node wrong, at every depth."""

    def plan(tokens: list[int]) -> DraftTree:
        right = _rest(outputs, tokens)[:4]
        wrong = [(token + 1) % vocab_size for token in right]
        return chain(wrong)

    return plan


def decoy_plan(outputs: dict[tuple[int, ...], list[int]], vocab_size: int, depth: int = 5) -> Plan:
    """One right deep path, the last child everywhere, among two decoys at each of its nodes."""

    def plan(tokens: list[int]) -> DraftTree:
        token: list[int] = []
        parent: list[int] = []
        node = -1
        for right in _rest(outputs, tokens)[:depth]:
            for off in (1, 2):
                token.append((right + off) % vocab_size)
                parent.append(node)
                # A decoy's child carries the right token, at the wrong place.
                token.append(right)
                parent.append(len(token) - 2)
            token.append(right)
            parent.append(node)
            node = len(token) - 1
        return tree_of(token, parent)

    return plan


def empty_plan(_: list[int]) -> DraftTree:
    return EMPTY


def chain(tokens: list[int]) -> DraftTree:
    return tree_of(tokens, range(-1, len(tokens) - 1))


def _rest(outputs: dict[tuple[int, ...], list[int]], tokens: list[int]) -> list[int]:
    for prompt, output in outputs.items():
        whole = [*prompt, *output]
        if whole[: len(tokens)] == tokens:
            return whole[len(tokens) :]
    raise AssertionError("the decoder committed tokens that plain decoding does not give")
