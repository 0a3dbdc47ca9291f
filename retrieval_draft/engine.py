"""The whole drafter without a network: one batch's step in, one draft tree per sequence out.

Knows nothing of gRPC. No step waits for Redis or disk: what is learned goes through a queue.
"""

import itertools
import time
from hashlib import blake2b

from retrieval_draft.checks import (
    check_batch,
    check_end_tokens,
    check_ids,
    check_part,
    check_start,
    checked,
)
from retrieval_draft.clients import Clients, ClientState
from retrieval_draft.config import POSITION_MAX, Config
from retrieval_draft.drafting.budget import cut, probability_floor
from retrieval_draft.drafting.explaining import Preview
from retrieval_draft.drafting.sight import Verified
from retrieval_draft.drafts import (
    Terms,
    asked_of,
    by_namespace,
    draft_batch,
    draft_one,
    grows_at_once,
    sight_of,
)
from retrieval_draft.errors import FailedPrecondition, InvalidInput, NotFound
from retrieval_draft.feedback import OnCommitted, Taken, taken
from retrieval_draft.following import follow
from retrieval_draft.namespace import NamespaceState
from retrieval_draft.reporter import Reporter
from retrieval_draft.sequence import Sequence
from retrieval_draft.step import (
    DraftOptions,
    Learning,
    Problem,
    SequenceStart,
    SequenceStep,
    Status,
    StepRequest,
    StepResponse,
)
from retrieval_draft.store.backend import Backend
from retrieval_draft.stores import Stores
from retrieval_draft.tree import EMPTY, Int32Array


class Engine:
    """Thread-safe; the steps of one client run one after the other, those of several beside each other."""

    def __init__(self, backend: Backend, config: Config | None = None) -> None:
        self.config = config or Config()
        self.stores = Stores(backend, self.config)
        self.clients = Clients(self.config, self._journal_rest)
        self._reporter = Reporter(self.stores)
        self.on_committed: OnCommitted | None = None
        self.replica = ""
        self.began = time.monotonic()
        self._numbers = itertools.count()
        self._newest: tuple[DraftOptions | None, Terms] = None, Terms(DraftOptions())

    def start(self, replica: str) -> None:
        """Load what the backend holds; returns when what was learned before is there again."""
        self.replica = replica
        self.stores.backend.start(replica, self.stores)
        self.stores.upkeep.start(replica)
        self._reporter.start()

    def stop(self, flush_seconds_max: float = 5.0) -> bool:
        """Journal what open sequences have not yet, flush, and end the background threads."""
        for sequence in self.clients.open_sequences():
            self._journal_rest(sequence)
        self.stores.upkeep.stop()
        self._reporter.stop()
        if self.stores.dense_thread is not None:
            self.stores.dense_thread.stop()
        return self.stores.backend.stop(flush_seconds_max)

    def flush(self, seconds_max: float) -> bool:
        """Whether all that was committed in whole records before has been learned by now."""
        for client in self.clients.all():
            with client.lock:
                self._settle(client)
        return self.stores.backend.flush(seconds_max)

    def report(self) -> None:
        """Add what was counted to the fleet's counts now, as the background does every 2 s.

        Talks to the store and raises what it raises; nothing is lost then.
        """
        self._reporter.report()

    def step(self, tenant: str, request: StepRequest) -> StepResponse:
        """One decode step. Raises InvalidInput or NotFound for what concerns the whole message.

        What concerns one sequence becomes its status. A retry of the newest step returns the stored
        answer; an older one raises FailedPrecondition. What the step teaches the journal is left to
        `settle`, which the caller should call when the answer is on its way.
        """
        began = time.perf_counter()
        check_batch(request, self.config)
        terms = self._terms(request.options)
        state = self.stores.state(tenant, request.namespace)
        client = self.clients.get(tenant, request.client_id)
        with client.lock:
            if client.last_response is not None and request.step_id <= client.last_step:
                if request.step_id == client.last_step:
                    return client.last_response
                raise FailedPrecondition(
                    f"step_id is {request.step_id}, the newest of this client is {client.last_step}"
                )
            response = self._answer(tenant, state, client, request, terms, began)
            client.last_step, client.last_response = request.step_id, response
        self.clients.sweep(time.monotonic())
        return response

    def _terms(self, asked: DraftOptions) -> Terms:
        """Found once for options that an engine in this process sends step after step."""
        newest, terms = self._newest
        if newest is not asked:
            terms = Terms(checked(asked, self.config))
            self._newest = asked, terms
        return terms

    def settle(self, tenant: str, client_id: str) -> None:
        """Queue for the journal what the client's newest step committed; the next step would do it too."""
        began = time.perf_counter()
        client = self.clients.get(tenant, client_id)
        with client.lock:
            timings = client.unsettled[0].state.counters.timings if client.unsettled else None
            self._settle(client)
        if timings is not None:
            timings.settled(time.perf_counter() - began)

    def _settle(self, client: ClientState) -> None:
        for sequence in client.unsettled:
            self._journal(sequence, self.config.record_tokens, self.config.record_rows)
            if sequence.similar is not None and sequence.held is not None:
                # Only now: what the dense thread does would keep the answer from Python's lock.
                sequence.similar.ask(sequence.ring)
        client.unsettled.clear()

    def finish_sequences(self, tenant: str, client_id: str, sequence_ids: list[str]) -> int:
        """Close sequences whose engine gave them up; what they committed stays learned."""
        client = self.clients.get(tenant, client_id)
        with client.lock:
            return sum(self._finish(client, name) for name in sequence_ids)

    def preview(
        self,
        tenant: str,
        namespace: str,
        tokens: Int32Array,
        options: DraftOptions,
        corpora: tuple[str, ...] = (),
    ) -> Preview:
        """What a new sequence of these tokens would be drafted now; nothing is learned, counted or kept.

        Raises InvalidInput or NotFound as a step would. O(tokens + nodes).
        """
        if not len(tokens):
            raise InvalidInput("tokens", "0 tokens", "1 or more")
        options = checked(options, self.config)
        state = self.stores.state(tenant, namespace)
        start = SequenceStart(len(tokens), learning=Learning.NONE, corpora=corpora)
        part = SequenceStep("preview", 0, tokens, start)
        check_ids(part, state.spec.vocab_size, self.config)
        sequence = self._opened(tenant, state, part)
        sequence.cut(sequence.first, len(tokens))
        follow([taken(0, part, sequence, sequence.first)])
        began = time.perf_counter()
        floor = probability_floor(options.verify_cost, 1)
        tree = draft_one(sequence, options.nodes_max, floor, options).tree
        (tree,) = cut([tree], options.batch_nodes_max, options.verify_cost)
        draft_us = int((time.perf_counter() - began) * 1e6)
        return Preview(tree, sight_of(sequence), draft_us)

    def _answer(
        self,
        tenant: str,
        state: NamespaceState,
        client: ClientState,
        request: StepRequest,
        terms: Terms,
        began: float,
    ) -> StepResponse:
        self._settle(client)
        options = terms.options
        count = len(request.sequences)
        statuses = [Status.OK] * count
        problems: list[Problem] = []
        batch: list[Taken] = []
        seen: set[str] = set()
        for i, part in enumerate(request.sequences):
            try:
                if part.sequence_id in seen:
                    raise InvalidInput("sequence_ids", part.sequence_id, "distinct in a batch")
                seen.add(part.sequence_id)
                one = self._take(tenant, state, client, i, part)
            except InvalidInput as error:
                statuses[i] = Status.REJECTED
                state.counters.rejected += 1
                problems.append(Problem(i, error.field, error.value, error.limit, error.reason))
                continue
            if one is None:
                statuses[i] = Status.RESYNC
                state.counters.resyncs += 1
            else:
                batch.append(one)
        asked = asked_of(batch, request.options, options)
        if asked:
            state.asked, state.batch = options, len(asked)
        growing = terms.growing(len(asked), began)
        forest = None
        took = time.perf_counter()
        if grows_at_once(batch, options):
            forest = follow(batch, self.on_committed, asked, options, growing)
            self._taken(client, batch)
        else:
            for its_batch in by_namespace(batch):
                follow(its_batch, self.on_committed)
            self._taken(client, batch)
        trees, grown = draft_batch(request.step_id, count, asked, options, growing, forest)
        ended = time.perf_counter()
        state.counters.timings.stepped(began, took, grown, ended)
        draft_us = int((ended - began) * 1e6)
        return StepResponse(request.step_id, statuses, trees, draft_us, problems)

    # Taking what was committed.

    def _take(
        self,
        tenant: str,
        state: NamespaceState,
        client: ClientState,
        index: int,
        part: SequenceStep,
    ) -> Taken | None:
        """The sequence, with room for its new tokens; None if it must be sent from the start (RESYNC).

        Raises InvalidInput before anything has changed.
        """
        check_part(part, self.config)
        opening = part.base_position == 0
        if opening:
            sequence = self._opened(tenant, state, part)
        else:
            known = client.sequences.get(part.sequence_id)
            if known is None or known.state.gone:
                return None
            sequence = known
        check_ids(part, sequence.state.spec.vocab_size, self.config)
        first, ring, count = sequence.first, sequence.ring, len(part.tokens)
        base = first if opening else part.base_position
        if not ring.low <= base - first <= ring.stop:
            return None
        if base + count > POSITION_MAX:
            raise InvalidInput("tokens", base + count, f"{POSITION_MAX} positions")
        if opening:
            self.clients.close(client, part.sequence_id)
            client.sequences[part.sequence_id] = sequence
            self.clients.account(tenant, ring.nbytes)
        one = taken(index, part, sequence, base)
        sequence.cut(base, count)
        if sequence.ring is not ring:
            self.clients.account(tenant, sequence.ring.nbytes - ring.nbytes)
        return one

    def _taken(self, client: ClientState, batch: list[Taken]) -> None:
        """What else their new tokens mean for the sequences."""
        now = time.monotonic()
        for one in batch:
            sequence, part = one.sequence, one.part
            if part.rows is not None:
                sequence.observe(part.rows, one.verified, one.base)
                if sequence.similar is not None:
                    sequence.similar.observe(part.rows, sequence.stop)
            if (held := sequence.held) is not None:
                sequence.held, methods = None, sequence.state.methods
                is_new = sequence.learning != Learning.NONE and len(part.tokens) > 0
                if is_new and methods.learns(held.method):
                    news = Verified(sequence.ring, len(part.tokens), one.verified, part.rows)
                    methods.learn(news)
            sequence.model_tree = part.model_tree or EMPTY
            sequence.touched = now
            client.unsettled.append(sequence)
            if part.finished:
                self._finish(client, part.sequence_id)

    def _opened(self, tenant: str, state: NamespaceState, part: SequenceStep) -> Sequence:
        # Without a start nothing says where the prompt ends: then all of it is prompt, and not learned.
        start = part.start or SequenceStart(prompt_length=len(part.tokens))
        check_start(start)
        if start.namespace:
            try:
                state = self.stores.state(tenant, start.namespace)
            except NotFound as error:
                raise InvalidInput("starts.namespace", start.namespace, str(error)) from error
        check_end_tokens(start, state.spec.vocab_size)
        state.corpora(start.corpora)
        number = next(self._numbers)
        sequence = Sequence(state, number, start, self.config.context_tokens_max)
        # Outputs of sequences that drew alike would be alike: not here, and not on another replica.
        identity = f"{self.replica}/{number}/{part.sequence_id}".encode()
        sequence.draws = int.from_bytes(blake2b(identity, digest_size=8).digest(), "little")
        return sequence

    def _journal(self, sequence: Sequence, tokens_min: int, rows_min: int) -> None:
        # What a deleted namespace saw must not reach one that was created anew under its name.
        if sequence.state.gone or not sequence.has_gathered(tokens_min):
            return
        for record in sequence.records(tokens_min, rows_min):
            self.stores.backend.append(sequence.state.key, record)
            if sequence.similar is not None:
                sequence.similar.learn(self.replica, record)

    def _journal_rest(self, sequence: Sequence) -> None:
        self._journal(sequence, tokens_min=1, rows_min=1)

    def _finish(self, client: ClientState, name: str) -> bool:
        """Close a sequence that is over, if it is open; those that were evicted are not: they come again."""
        sequence = self.clients.close(client, name)
        if sequence is not None:
            sequence.state.sample.take(sequence)
        return sequence is not None
