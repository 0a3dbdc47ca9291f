"""One engine's conversation with its drafter: it never raises, and never waits past its deadline.

Keeps every open sequence's tokens, so that whatever is lost can be sent again: what a lost message held
goes with the next, a drafter that forgot a sequence (RESYNC) gets it once more. A drafter that fails
costs nothing but a try now and then.
"""

import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from retrieval_draft.breaker import FAILURES_MAX, Breaker
from retrieval_draft.client import Client, check_namespace, ensure_namespace
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
from retrieval_draft.pace import Pace
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
from retrieval_draft.unsent import OpenSequence, Sent, add_rows, along_tokens
from retrieval_draft.v1.store_pb2 import CreateNamespaceRequest

log = logging.getLogger(__name__)

FINISHING_MAX = 256
MESSAGE_TOKENS_MAX = 4 << 20
"""Of one message, or of one sequence if that alone is longer: messages have a limit in bytes."""
GREETING_SECONDS_MAX = 0.25
LASTING = (FailedPrecondition, PermissionDenied, Unauthenticated)
"""Errors that trying again does not mend."""
ROUND_TRIP_WEIGHT = 0.1
"""Of the newest round trip in the running mean."""


@dataclass(slots=True)
class Figures:
    """What the conversation came to, for metrics."""

    steps: int = 0
    late: int = 0
    failed: int = 0
    skipped: int = 0
    resyncs: int = 0
    rejected: int = 0
    bad_trees: int = 0
    paced: int = 0
    """Steps that did not ask because asking has not paid lately."""
    round_trip_seconds: float = 0.0


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
        """Chains are cut at `floor`; give none for trees.

        `create` makes the namespace where it is missing, and those that `namespace_of` names.

        `namespace_of` gives the namespace that a sequence id opens in.
        """
        self.figures = Figures()
        self._client = client
        self._namespace = namespace
        self._vocab_size = vocab_size
        self._options = options or DraftOptions()
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
        self._breaker = Breaker(clock)
        self._round_trip_ms = 0.0
        self._pace = Pace()
        # The newest step that asked: nodes that came for its sequences, tokens they gained since.
        self._asked: dict[str, int] = {}
        self._gained = 0
        self._width: int | None = None

    @property
    def observation_width(self) -> int:
        """The top-k that the drafter wants; 0 as long as it does not answer."""
        if self._width is None and not self._breaker.is_open:
            try:
                self._greet()
            except DraftError as error:
                self._failed(error)
            except Exception:
                log.exception("drafting failed")
                self._failed(None)
        return self._width or 0

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
        if sequence_id in self._asked:
            self._gained += len(tokens)
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
        try:
            return self._draft(nodes_max, model_trees or {})
        except DraftError as error:
            self._failed(error)
        except Exception:
            # A bug of ours must cost drafts and nothing else.
            log.exception("drafting failed")
            self._failed(None)
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

    def _draft(
        self, nodes_max: dict[str, int], model_trees: dict[str, DraftTree]
    ) -> dict[str, DraftTree]:
        if self._breaker.is_open:
            self.figures.skipped += 1
            return {}
        if nodes_max and not self._pays():
            self.figures.paced += 1
            return {}
        if self._width is None:
            self._greet()
        if self._sent is not None and self._receive(self._seconds_max / 4) is None:
            # Still the message before: nothing else is sent until its answer is there.
            self.figures.skipped += 1
            self._breaker.waited()
            return {}
        parts, sent = self._message(nodes_max, model_trees)
        if not parts:
            return {}
        self.figures.steps += 1
        began = self._clock()
        self._sent = sent
        self._client.send(
            StepRequest(sent.step_id, self._namespace, self._client_id, parts, self._priced())
        )
        answer = self._receive(self._seconds_max)
        seconds = self._clock() - began
        self.figures.round_trip_seconds += seconds
        self._round_trip_ms += ROUND_TRIP_WEIGHT * (1000 * seconds - self._round_trip_ms)
        trees = {} if answer is None else self._trees(sent, answer, nodes_max)
        self.figures.late += answer is None
        self._asked = {name: len(trees.get(name, ())) for name in nodes_max}
        return trees

    def price(self, cost: VerifyCost | None) -> None:
        """From here on steps cost this: what they draft must be worth it."""
        self._options = replace(self._options, verify_cost=cost)

    def _pays(self) -> bool:
        """Judge the newest step that asked, and say whether this one should."""
        cost = self._options.verify_cost
        if cost is None:
            return True
        if self._asked and self._gained:
            nodes = sum(self._asked.values())
            self._pace.gained(self._gained, len(self._asked), nodes, cost, self._round_trip_ms)
        self._asked, self._gained = {}, 0
        return self._pace.asks()

    def _priced(self) -> DraftOptions:
        """The options; a step that asks for drafts costs the asking too, however many come back."""
        cost = self._options.verify_cost
        if cost is None:
            return self._options
        milliseconds = cost.milliseconds + np.float32(self._round_trip_ms)
        return replace(self._options, verify_cost=replace(cost, milliseconds=milliseconds))

    def _greet(self) -> None:
        """Make the namespace where that was asked for, and learn what is worth sending.

        Raises FailedPrecondition for a namespace of other tokens, which could only mislead.
        """
        if self._create is not None:
            ensure_namespace(self._client, self._create, GREETING_SECONDS_MAX)
        else:
            found = self._client.get_namespace(self._namespace, GREETING_SECONDS_MAX)
            check_namespace(found, self._vocab_size)
        self._width = self._client.observation_width(GREETING_SECONDS_MAX)

    def _message(
        self, nodes_max: dict[str, int], model_trees: dict[str, DraftTree]
    ) -> tuple[list[SequenceStep], Sent]:
        self._step_id += 1
        parts: list[SequenceStep] = []
        sequences: list[OpenSequence] = []
        lengths: list[int] = []
        most = self._options.nodes_max
        asked = [
            (name, self._open[name], cap) for name, cap in nodes_max.items() if name in self._open
        ]
        ended = [(name, sequence, 0) for name, sequence in self._finishing.items()]
        told = [*asked, *ended]
        namespaces = {sequence.start.namespace for _, sequence, _ in told}
        ready = self._others.ready(namespaces, GREETING_SECONDS_MAX)
        room = MESSAGE_TOKENS_MAX
        for name, sequence, cap in told:
            if sequence.dead or sequence.start.namespace not in ready:
                continue
            room -= sequence.length - sequence.acknowledged
            if len(parts) == BATCH_SEQUENCES_MAX or (parts and room < 0):
                # After a restart of the drafter all contexts are due: the rest goes with the next.
                break
            nodes = min(cap, most) if most else cap
            model_tree = model_trees.get(name)
            ends = name in self._finishing
            parts.append(sequence.part(self._step_id, name, nodes, model_tree, finished=ends))
            sequences.append(sequence)
            lengths.append(sequence.length)
        names = [part.sequence_id for part in parts]
        finished = [part.finished for part in parts]
        return parts, Sent(self._step_id, names, sequences, lengths, finished)

    def _receive(self, seconds_max: float) -> StepResponse | None:
        """The outstanding answer, if it comes in time; takes note of what it acknowledges."""
        assert self._sent is not None
        answer = self._client.receive(self._sent.step_id, seconds_max)
        if answer is None:
            return None
        sent, self._sent = self._sent, None
        self._breaker.answered()
        for i, (name, sequence) in enumerate(zip(sent.sequence_ids, sent.sequences, strict=True)):
            self._acknowledge(name, sequence, answer, i, sent.lengths[i])
            # One that the drafter lacked is sent once more as a whole: it is still worth learning.
            heard = sent.finished[i] and answer.statuses[i] != Status.RESYNC
            if (heard or sequence.dead) and self._finishing.get(name) is sequence:
                del self._finishing[name]
        return answer

    def _acknowledge(
        self, name: str, sequence: OpenSequence, answer: StepResponse, i: int, length: int
    ) -> None:
        status = answer.statuses[i]
        if status == Status.OK:
            sequence.acknowledged = length
            sequence.learned_to = max(sequence.learned_to, length)
        elif status == Status.RESYNC:
            self.figures.resyncs += 1
            sequence.acknowledged = 0
        else:
            self.figures.rejected += 1
            sequence.dead = True
            why = next((p for p in answer.problems if p.index == i), None)
            log.warning("sequence %s gets no drafts: %s", shown(name), why)

    def _trees(
        self, sent: Sent, answer: StepResponse, nodes_max: dict[str, int]
    ) -> dict[str, DraftTree]:
        trees: dict[str, DraftTree] = {}
        for i, name in enumerate(sent.sequence_ids):
            tree = answer.trees[i]
            sequence = self._open.get(name)
            if sequence is None or answer.statuses[i] != Status.OK or not len(tree):
                continue
            if problem := tree.problem(self._vocab_size, nodes_max.get(name, 0)):
                self.figures.bad_trees += 1
                log.warning("a draft tree was refused: %s", problem)
                continue
            kept = self._floor.kept(tree)
            if not len(kept):
                continue
            sequence.tree_step = sent.step_id
            sequence.tree_cut = None if kept is tree else kept
            trees[name] = kept
        return trees

    def _failed(self, error: DraftError | None) -> None:
        """The message is lost; its tokens are not, for nothing was acknowledged."""
        if isinstance(error, NotFound):
            # The namespace is gone, perhaps with the whole store: greet again.
            self._width = None
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
            sequence.tree_step = sequence.verified_step = 0
            sequence.accepted = -1
            sequence.verified_tree = None
            sequence.asked_step = 0
