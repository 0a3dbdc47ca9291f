"""One engine's conversation with its drafter: it never raises, and never waits past its deadline.

Keeps every open sequence's tokens, so that whatever is lost can be sent again: what a lost message held
goes with the next, a drafter that forgot a sequence (RESYNC) gets it once more. A drafter that fails
costs nothing but a try now and then.
"""

import logging
import time
import uuid
from collections.abc import Callable

from retrieval_draft.asking import Asking, Figures
from retrieval_draft.breaker import FAILURES_MAX, Breaker
from retrieval_draft.client import Client, greet
from retrieval_draft.config import BATCH_SEQUENCES_MAX, STEP_MS_MAX
from retrieval_draft.errors import (
    DraftError,
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    shown,
)
from retrieval_draft.floor import NO_FLOOR, Floor
from retrieval_draft.made_namespaces import MadeNamespaces
from retrieval_draft.step import (
    DraftOptions,
    Learning,
    Rows,
    SequenceStart,
    SequenceStep,
    Status,
    StepRequest,
    StepResponse,
    VerifyCost,
)
from retrieval_draft.tree import DraftTree, Int32Array, int32s
from retrieval_draft.unsent import OpenSequence, Question, Sent, add_rows, along_tokens
from retrieval_draft.v1.store_pb2 import CreateNamespaceRequest

log = logging.getLogger(__name__)

FINISHING_MAX = 256
MESSAGE_TOKENS_MAX = 4 << 20
"""Of one message, or of one sequence if that alone is longer: messages have a limit in bytes."""
GREETING_SECONDS_MAX = 0.25
LASTING = (FailedPrecondition, PermissionDenied, Unauthenticated)
"""Errors that trying again does not mend."""


class Conversation:
    """Not thread-safe: one engine's step loop owns it."""

    def __init__(
        self,
        client: Client,
        namespace: str,
        vocab_size: int,
        options: DraftOptions | None = None,
        *,
        floor: Floor = NO_FLOOR,
        step_ms_max: float = STEP_MS_MAX,
        create: CreateNamespaceRequest | None = None,
        namespace_of: Callable[[str], str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Chains are cut at `floor` as long as steps have no price; give none for trees.

        `create` makes the namespace where it is missing, and those that `namespace_of` names.

        `namespace_of` gives the namespace that a sequence id opens in.
        """
        self.figures = Figures()
        self._client = client
        self._namespace = namespace
        self._vocab_size = vocab_size
        self._asking = Asking(options or DraftOptions())
        self._floor = floor
        self._seconds_max = step_ms_max / 1000
        self._create = create
        self._others = MadeNamespaces(client, namespace, create, namespace_of)
        self._clock = clock
        self._client_id = uuid.uuid4().hex
        self._step_id = 0
        self._open: dict[str, OpenSequence] = {}
        self._finishing: dict[str, OpenSequence] = {}
        self._sent: Sent | None = None
        self._question: Question | None = None
        self._breaker = Breaker(clock)
        self._width: int | None = None
        self._hidden_width: int | None = None

    @property
    def observation_width(self) -> int:
        """The top-k that the drafter wants; 0 as long as it does not answer."""
        if self._width is None and not self._breaker.is_open:
            try:
                self._greet()
            except Exception as error:
                self._failed(error)
        return self._width or 0

    @property
    def is_away(self) -> bool:
        """The drafter failed lately: `draft` would not ask it now. What is committed may wait meanwhile."""
        return self._breaker.is_open

    @property
    def hidden_width(self) -> int:
        """How wide hidden states may be that the drafter wants; 0 = none, or no answer yet."""
        if self._hidden_width is None and self.observation_width:
            try:
                self._hidden_width = self._client.hidden_width(GREETING_SECONDS_MAX)
            except Exception as error:
                self._failed(error)
        return self._hidden_width or 0

    def open(
        self,
        sequence_id: str,
        tokens: Int32Array,
        *,
        rows: Rows | None = None,
        temperature: float | None = None,
        length_max: int = 0,
        end_tokens: tuple[int, ...] = (),
        learning: Learning = Learning.UNSPECIFIED,
        corpora: tuple[str, ...] = (),
    ) -> None:
        """A sequence with this prompt begins; `rows` are what the target predicted along it."""
        start = SequenceStart(
            prompt_length=len(tokens),
            learning=learning,
            temperature=temperature,
            length_max=length_max,
            end_tokens=end_tokens,
            corpora=corpora,
            namespace=self._others.other(sequence_id),
        )
        # The drafter closes its old one of this name anyway; told so later, it would close this one.
        self._finishing.pop(sequence_id, None)
        self._open[sequence_id] = sequence = OpenSequence(start, int32s(tokens).copy(), len(tokens))
        add_rows(sequence, rows)

    def commit(
        self,
        sequence_id: str,
        tokens: Int32Array,
        accepted: int,
        rows: Rows | None = None,
        verified: DraftTree | None = None,
    ) -> None:
        """Verification committed `tokens`, of which the first `accepted` were drafted (-1: unknown).

        `verified` is the tree that was verified if it was not the one that `draft` returned.
        """
        sequence = self._open.get(sequence_id)
        if sequence is None:
            return
        is_first = sequence.length == sequence.acknowledged
        if is_first:
            # Only the first commit after a message can have verified its tree; later ones follow it.
            step = sequence.tree_step if verified is None else sequence.asked_step
            sequence.accepted = accepted
            sequence.verified_step = step if accepted >= 0 else 0
            tree = sequence.tree_cut if verified is None else verified
            sequence.verified_tree = tree if sequence.verified_step else None
        sequence.append(tokens)
        sequence.tree_step = 0
        self._asking.gained(sequence_id, len(tokens))
        if rows is not None:
            # Only the first commit's tree is told: rows after another one's nodes would count as its.
            add_rows(sequence, rows if is_first else along_tokens(rows))

    def finish(self, sequence_id: str) -> None:
        """The sequence is over; the drafter hears of it with the next message."""
        sequence = self._open.pop(sequence_id, None)
        if sequence is None or sequence.dead:
            return
        self._finishing[sequence_id] = sequence
        while len(self._finishing) > FINISHING_MAX:
            # The drafter has been gone for long: its time to live ends them there.
            self._finishing.pop(next(iter(self._finishing)))
        if not self._open:
            # Nobody knows when the next message comes: let what was committed be learned now.
            self.draft({})

    def draft(
        self, nodes_max: dict[str, int], model_trees: dict[str, DraftTree] | None = None
    ) -> dict[str, DraftTree]:
        """Trees for these sequences, as far as they come in time; one message for all of them.

        `model_trees` are the engine's own drafts, which the drafter fuses with its own.
        """
        self.ask(nodes_max, model_trees)
        return self.take() or {}

    def ask(
        self,
        nodes_max: dict[str, int],
        model_trees: dict[str, DraftTree] | None = None,
        spent_ms: float = 0.0,
    ) -> None:
        """The first half of `draft`: the message is on its way, and its deadline runs.

        `spent_ms` is what the step has cost before: the time of the engine's own drafts.
        """
        self._asking.spent_ms = spent_ms
        self._question = None
        try:
            self._question = self._send(nodes_max, model_trees or {})
        except Exception as error:
            self._failed(error)

    def take(self, *, waits: bool = True) -> dict[str, DraftTree] | None:
        """The second half: the trees, once. Without `waits` None if they have not come yet.

        What else the engine did since `ask` does not count as waiting for them.
        """
        if (question := self._question) is None:
            return {}
        self._question = None
        try:
            began = self._clock()
            answer = self._receive(max(0.0, question.deadline - began) if waits else 0.0)
            question.seconds += self._clock() - began
            if answer is None and not waits:
                self._question = question
                return None
            return self._answered(question, answer)
        except Exception as error:
            self._failed(error)
            return {}

    def flush(self, seconds_max: float = 1.0) -> bool:
        """Send what is finished but unsent; whether the drafter has heard of all of it."""
        deadline = self._clock() + seconds_max
        while (self._finishing or self._sent) and self._clock() < deadline:
            if self._breaker.is_open:
                return False
            steps = self.figures.steps
            self.draft({})
            if self._sent is None and self.figures.steps == steps:
                # Nothing could be sent: no more would be in a loop without a wait.
                break
        return not self._finishing and self._sent is None

    def _send(
        self, nodes_max: dict[str, int], model_trees: dict[str, DraftTree]
    ) -> Question | None:
        if self._breaker.is_open:
            self.figures.skipped += 1
            return None
        if nodes_max and not self._asking.pays():
            self.figures.paced += 1
            return None
        if self._width is None:
            self._greet()
        if self._sent is not None and self._receive(self._seconds_max / 4) is None:
            # Still the message before: nothing else is sent until its answer is there.
            self.figures.skipped += 1
            self._breaker.waited()
            return None
        parts, sent = self._message(nodes_max, model_trees)
        if not parts:
            return None
        self.figures.steps += 1
        began = self._clock()
        self._sent = sent
        options = self._asking.priced()
        self._client.send(
            StepRequest(sent.step_id, self._namespace, self._client_id, parts, options)
        )
        return Question(sent, nodes_max, began + self._seconds_max, self._clock() - began)

    def _answered(self, question: Question, answer: StepResponse | None) -> dict[str, DraftTree]:
        trees = {} if answer is None else self._trees(question, answer)
        self.figures.late += answer is None
        self.figures.round_trip_seconds += question.seconds
        came = {name: len(trees.get(name, ())) for name in question.nodes_max}
        self._asking.answered(came, 1000 * question.seconds)
        return trees

    def price(self, cost: VerifyCost | None) -> None:
        """From here on steps cost this: what they draft must be worth it."""
        self._asking.price(cost)

    def _greet(self) -> None:
        seconds = GREETING_SECONDS_MAX
        greet(self._client, self._namespace, self._vocab_size, self._create, seconds)
        self._width = self._client.observation_width(seconds)

    def _message(
        self, nodes_max: dict[str, int], model_trees: dict[str, DraftTree]
    ) -> tuple[list[SequenceStep], Sent]:
        self._step_id += 1
        parts: list[SequenceStep] = []
        sent = Sent(self._step_id, [], [], [], [])
        most = self._asking.options.nodes_max
        told = [
            (name, self._open[name], cap, False)
            for name, cap in nodes_max.items()
            if name in self._open
        ]
        told += [(name, sequence, 0, True) for name, sequence in self._finishing.items()]
        others = {sequence.start.namespace for _, sequence, _, _ in told}
        ready = self._others.ready(others, GREETING_SECONDS_MAX)
        room = MESSAGE_TOKENS_MAX
        for name, sequence, cap, ends in told:
            if sequence.dead or sequence.start.namespace not in ready:
                continue
            room -= sequence.length - sequence.acknowledged
            if len(parts) == BATCH_SEQUENCES_MAX or (parts and room < 0):
                # After a restart of the drafter all contexts are due: the rest goes with the next.
                break
            nodes = min(cap, most) if most else cap
            model_tree = model_trees.get(name)
            parts.append(sequence.part(self._step_id, name, nodes, model_tree, finished=ends))
            sent.sequence_ids.append(name)
            sent.sequences.append(sequence)
            sent.lengths.append(sequence.length)
            sent.finished.append(ends)
        return parts, sent

    def _receive(self, seconds_max: float) -> StepResponse | None:
        """The outstanding answer, if it comes in time; takes note of what it acknowledges."""
        assert self._sent is not None
        answer = self._client.receive(self._sent.step_id, seconds_max)
        if answer is None:
            return None
        sent, self._sent = self._sent, None
        self._breaker.answered()
        for i, sequence in enumerate(sent.sequences):
            status = answer.statuses[i]
            if status == Status.OK:
                sequence.acknowledged = length = sent.lengths[i]
                if length > sequence.learned_to:
                    sequence.learned_to = length
            else:
                self._refused(sent.sequence_ids[i], sequence, answer, i)
            # One that the drafter lacked is sent once more as a whole: it is still worth learning.
            if sequence.dead or (sent.finished[i] and status != Status.RESYNC):
                name = sent.sequence_ids[i]
                if self._finishing.get(name) is sequence:
                    del self._finishing[name]
        return answer

    def _refused(self, name: str, sequence: OpenSequence, answer: StepResponse, i: int) -> None:
        if answer.statuses[i] == Status.RESYNC:
            self.figures.resyncs += 1
            sequence.acknowledged = 0
        else:
            self.figures.rejected += 1
            sequence.dead = True
            why = next((p for p in answer.problems if p.index == i), None)
            log.warning("sequence %s gets no drafts: %s", shown(name), why)

    def _trees(self, question: Question, answer: StepResponse) -> dict[str, DraftTree]:
        trees: dict[str, DraftTree] = {}
        sent, nodes_max = question.sent, question.nodes_max
        floor = self._floor if self._asking.options.verify_cost is None else NO_FLOOR
        for i, tree in enumerate(answer.trees):
            name = sent.sequence_ids[i]
            sequence = self._open.get(name)
            if sequence is None or answer.statuses[i] != Status.OK or not len(tree.token):
                continue
            if problem := tree.problem(self._vocab_size, nodes_max.get(name, 0)):
                self.figures.bad_trees += 1
                log.warning("a draft tree was refused: %s", problem)
                continue
            kept = tree if floor is NO_FLOOR else floor.kept(tree)
            if not len(kept.token):
                continue
            sequence.tree_step = sent.step_id
            sequence.tree_cut = None if kept is tree else kept
            trees[name] = kept
        return trees

    def _failed(self, error: Exception) -> None:
        """Whatever is raised costs drafts and nothing else: the message is lost; its tokens are not, for
        nothing was acknowledged.
        """
        if not isinstance(error, DraftError):
            # A bug of ours.
            log.error("drafting failed", exc_info=error)
        if isinstance(error, NotFound):
            # The namespace is gone, perhaps with the whole store: greet again.
            self._width = self._hidden_width = None
            self._others.forget()
        lasting = isinstance(error, LASTING)
        if lasting and not self._breaker.failures:
            # Only an operator can help: say so at once, and look now and then whether one did.
            log.warning("no drafts: %s", error)
        self._breaker.failed(lasting=lasting)
        if self._breaker.failures == FAILURES_MAX:
            log.warning("no drafts for now: %s", error)
        self.figures.failed += 1
        self._sent = None
        for sequence in [*self._open.values(), *self._finishing.values()]:
            sequence.forget_steps()
