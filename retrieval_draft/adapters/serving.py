"""A serving stack's drafter: the rows of each step in, drafts out, and never anything worse.

Stacks tell what a row's tokens are; what is new, what verification kept, what ended and what a drafter
may be asked is found out here, so that an adapter is its stack's hook and nothing else.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import msgspec

from retrieval_draft.adapters.background import BackgroundClient
from retrieval_draft.adapters.pricing import cost_of, floor_of, step_times_of
from retrieval_draft.adapters.served import Served
from retrieval_draft.adapters.settings import Settings
from retrieval_draft.adapters.tracking import tail
from retrieval_draft.asking import Figures
from retrieval_draft.client import Client
from retrieval_draft.config import POSITION_MAX
from retrieval_draft.conversation import Conversation
from retrieval_draft.drafter import Drafter
from retrieval_draft.namespace_names import model_namespace, namespace_of
from retrieval_draft.observing import ObservingDrafter
from retrieval_draft.step import DraftOptions, Rows, TreeShape
from retrieval_draft.store.records import END_TOKENS_MAX
from retrieval_draft.tree import EMPTY, DraftTree, Int32Array, int32s
from retrieval_draft.v1.store_pb2 import CreateNamespaceRequest

log = logging.getLogger(__name__)

ERRORS_LOGGED_MAX = 10
REPORT_SECONDS = 10.0
CLOSE_SECONDS_MAX = 1.0

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What the stack decodes with."""

    name: str
    vocab_size: int
    end_tokens: tuple[int, ...] = ()
    has_state: bool = False
    """Recurrent layers (Mamba, GDN and hybrids), whose state cannot be taken back to where a draft failed."""

    def known(self, tokens: Iterable[int]) -> tuple[int, ...]:
        """Those of its vocabulary: stacks say -1 for no end token, and pass on what users ask for."""
        return tuple(token for token in tokens if 0 <= token < self.vocab_size)[:END_TOKENS_MAX]


class Row(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One request of a step. `history` may be a view: nothing of it is kept."""

    request_id: str
    history: Int32Array
    """Prompt and all that is committed, int32."""
    fresh: int
    """So many of its last tokens are output, those of this step at least; the rest is prompt if the request
    is new."""
    nodes_max: int
    """What the stack verifies at most; 0 = learn, draft nothing."""
    length_max: int = 0
    """No position from here on will be decoded; 0 = unknown."""
    temperature: float | None = None
    end_tokens: tuple[int, ...] | None = None
    """Drafts end there; None = the model's."""
    adapter: str = ""
    """LoRA adapter."""
    salt: str = ""
    """Cache salt: shares with requests of the same salt alone."""
    rows: Rows | None = None
    """What the target predicted, where the stack shows it."""

    @property
    def room(self) -> int:
        """Drafted tokens that fit: verification adds one of its own."""
        left = self.length_max - len(self.history) - 1 if self.length_max else self.nodes_max
        return max(0, min(self.nodes_max, left))


@dataclass(slots=True)
class _Known:
    """A request as of its last step."""

    length: int
    tail: bytes
    seen: float
    tree: DraftTree = EMPTY
    refused: bool = False
    opened: bool = False
    """Not while the drafter is away."""


class ServingDrafter:
    """One engine's drafter. Owned by its step loop: not thread-safe. No call raises, and none waits longer
    than the deadline of a step.
    """

    def __init__(
        self,
        client: Client,
        model: ServedModel,
        settings: Settings,
        shape: TreeShape = TreeShape.CHAIN,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.served = Served()
        self._client = client
        self._model = model
        self._settings = settings
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._namespaces: dict[str, str] = {}
        self._swept = self._reported = clock()
        self._base = settings.namespace or model_namespace(model.name)
        self._shared = {self._base}
        self.times = step_times_of(settings, shape, clock)
        """What the engine's steps cost; another drafter of the same engine may go on with it."""
        create = created(model, settings, self._base)
        self._conversation = Conversation(
            client,
            self._base,
            model.vocab_size,
            DraftOptions(
                nodes_max=settings.nodes_max,
                shape=shape,
                method=settings.method,
                batch_nodes_max=settings.batch_nodes_max,
                verify_cost=cost_of(settings),
                draft_us_max=int(1000 * settings.step_ms_max),
            ),
            floor=floor_of(settings, shape),
            step_ms_max=settings.step_ms_max,
            create=create,
            namespace_of=lambda name: self._namespaces.get(name, self._base),
            clock=clock,
        )
        self._drafter: Drafter = self._conversation
        if settings.observe_only:
            self._drafter = ObservingDrafter(self._conversation)
        if isinstance(client, BackgroundClient):
            client.prepare(create)

    @property
    def figures(self) -> Figures:
        """Of the conversation with the drafter: late answers, failures, steps that did not ask."""
        return self._conversation.figures

    @property
    def observation_width(self) -> int:
        """The top-k of the target's predictions that is worth showing; 0 = none."""
        return self._guarded(lambda: self._conversation.observation_width, 0)

    def step(self, rows: Sequence[Row], *, others: int = 0) -> list[DraftTree]:
        """A draft for each row, in their order; EMPTY where there is none.

        Its nodes are at most `room`, each within the vocabulary. The step also worked on so many `others`
        that have nothing new, as prompts that are read in parts.
        """
        began = self._clock()
        if self.times is not None:
            self.times.ended([row.request_id for row in rows], others)
        try:
            trees = self._step(rows, began)
        except Exception:
            self._fault()
            trees = [EMPTY] * len(rows)
        self._note(began)
        if self.times is not None:
            self.times.begins(trees)
        return trees

    def rests(self) -> bool:
        """Whether the coming step may be left out: for stacks whose `fresh` is all of a request's output.

        So it is while the drafter is away: histories hold what is committed meanwhile, and the first step
        that asks again takes it from there. A request that ends before is not learned to its end.
        """
        if not self._conversation.is_away:
            return False
        self._rested()
        return True

    def finish(self, request_ids: Iterable[str]) -> None:
        """These are over, at their end or aborted; what they committed stays learned."""
        for name in request_ids:
            if self._known.pop(name, None) is not None:
                self._guarded(partial(self._drafter.finish, name), None)
                self._namespaces.pop(name, None)

    def finish_all_but(self, going: Mapping[str, object]) -> None:
        """Only these are not over."""
        if gone := self._known.keys() - going.keys():
            self.finish(gone)

    def open_requests(self) -> list[str]:
        """Those that have not finished."""
        return list(self._known)

    def close(self) -> None:
        """Finish what is open and let it be learned: a second for that, and the client's own end."""
        self.finish(self.open_requests())
        self._guarded(lambda: self._conversation.flush(CLOSE_SECONDS_MAX), False)
        self._guarded(self._client.close, None)

    def _step(self, rows: Sequence[Row], now: float) -> list[DraftTree]:
        if self._conversation.is_away:
            self._rested()
            for row in rows:
                if row.request_id not in self._known:
                    self._known[row.request_id] = _begun(row, now)
            return [EMPTY] * len(rows)
        self.served.steps += 1
        asked: dict[str, int] = {}
        for row in rows:
            if self._take(row, now) and (room := row.room) > 0:
                asked[row.request_id] = room
        most = self._settings.batch_max
        if most and len(rows) > most:
            # Their tokens are kept, and sent when they end or when the batch is small again.
            self.served.throttled += 1
            asked = {}
        if asked and self.times is not None:
            self._conversation.price(self.times.cost())
            if self.times.should_vary():
                self.served.varied += 1
                asked = {}
        trees = self._drafter.draft(asked) if asked else self._conversation.draft({})
        self._sweep(now)
        return [self._given(row.request_id, asked, trees) for row in rows]

    def _take(self, row: Row, now: float) -> bool:
        """Note what the step committed; whether the request may have drafts."""
        name, history = row.request_id, row.history
        length = len(history)
        known = self._known.get(name)
        if known is None or length < known.length or tail(history, known.length) != known.tail:
            known = self._opened(row, _begun(row, now))
        elif not known.opened:
            known = self._opened(row, known)
        known.seen = now
        if known.refused:
            return False
        if length > known.length:
            fresh = history[known.length :]
            tokens: list[int] = fresh.tolist()
            if min(tokens) < 0 or max(tokens) >= self._model.vocab_size:
                self._refuse(known, row, "a token outside the vocabulary")
                return False
            accepted = -1 if known.tree is EMPTY else self._accepted(known.tree, tokens)
            self._drafter.commit(name, fresh, accepted, row.rows)
            known.length, known.tail = length, tail(history, length)
        known.tree = EMPTY
        return True

    def _rested(self) -> None:
        self.served.steps += 1
        self.figures.skipped += 1

    def _opened(self, row: Row, known: _Known) -> _Known:
        name = row.request_id
        self._known[name] = known
        known.opened = True
        namespace = namespace_of(self._base, row.adapter, row.salt)
        if namespace not in self._shared and len(self._shared) > self._settings.namespaces_max:
            self._refuse(known, row, f"more than {self._settings.namespaces_max} namespaces")
            return known
        self._shared.add(namespace)
        self._namespaces[name] = namespace
        prompt = row.history[: known.length]
        if not self._is_valid(prompt):
            self._refuse(known, row, "a token outside the vocabulary")
            return known
        self._drafter.open(
            name,
            int32s(prompt),
            rows=None,
            temperature=row.temperature,
            length_max=min(row.length_max, POSITION_MAX),
            end_tokens=self._model.known(
                self._model.end_tokens if row.end_tokens is None else row.end_tokens
            ),
            learning=self._settings.learn,
            corpora=(),
        )
        return known

    def _accepted(self, tree: DraftTree, fresh: list[int]) -> int:
        """How much of the last draft was kept."""
        accepted = min(len(tree.follow(fresh)), len(fresh) - 1)
        self.served.accepted_tokens += accepted
        return accepted

    def _given(
        self, name: str, asked: Mapping[str, int], trees: Mapping[str, DraftTree]
    ) -> DraftTree:
        tree = trees.get(name)
        if tree is None or not 0 < (nodes := len(tree.token)) <= asked.get(name, 0):
            return EMPTY
        self.served.drafts += 1
        self.served.draft_tokens += nodes
        self._known[name].tree = tree
        return tree

    def _is_valid(self, tokens: Int32Array) -> bool:
        if not len(tokens):
            return True
        return int(tokens.min()) >= 0 and int(tokens.max()) < self._model.vocab_size

    def _refuse(self, known: _Known, row: Row, why: str) -> None:
        self.served.refused += 1
        if self.served.refused <= ERRORS_LOGGED_MAX:
            log.warning("request %s gets no drafts: %s", row.request_id, why)
        known.refused = True
        self._drafter.finish(row.request_id)

    def _sweep(self, now: float) -> None:
        if now - self._swept < self._settings.idle_seconds_max / 4:
            return
        self._swept = now
        most = self._settings.idle_seconds_max
        self.finish([name for name, known in self._known.items() if now - known.seen >= most])

    def _note(self, began: float) -> None:
        served, now = self.served, self._clock()
        served.step_us.append(int(1e6 * (now - began)))
        if served.drafts and now - self._reported >= REPORT_SECONDS:
            self._reported = now
            log.info("drafting: %s", self.summary())

    def summary(self) -> str:
        """What drafting came to so far, in a line for people."""
        return self.served.summary(self.figures)

    def _guarded(self, action: Callable[[], Result], otherwise: Result) -> Result:
        try:
            return action()
        except Exception:
            self._fault()
            return otherwise

    def _fault(self) -> None:
        # An engine dies of what its drafter raises.
        self.served.errors += 1
        if self.served.errors <= ERRORS_LOGGED_MAX:
            log.exception("drafting failed")


def created(model: ServedModel, settings: Settings, namespace: str) -> CreateNamespaceRequest:
    """The namespace as it is made where it is missing. InvalidInput for a tokenizer that is not there."""
    print_of = ""
    if settings.tokenizer:
        from retrieval_draft.tokenizer import fingerprint, load_tokenizer

        print_of = fingerprint(load_tokenizer(settings.tokenizer))
    return CreateNamespaceRequest(
        namespace=namespace,
        vocab_size=model.vocab_size,
        tokenizer_fingerprint=print_of,
        end_tokens=int32s(model.known(model.end_tokens)).tobytes(),
    )


def _begun(row: Row, now: float) -> _Known:
    """A request that nobody was told of: all but this step's tokens are its prompt."""
    began = len(row.history) - min(row.fresh, len(row.history))
    return _Known(began, tail(row.history, began), now)
