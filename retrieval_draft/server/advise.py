"""Advise: replays beside drafting, one at a time, that leave half of a processor's time to others."""

import threading
import time
from collections.abc import Iterator

import numpy as np

from retrieval_draft.advice import Adviser, Progress
from retrieval_draft.checks import checked
from retrieval_draft.columns import column
from retrieval_draft.engine import Engine
from retrieval_draft.errors import ResourceExhausted
from retrieval_draft.server.edge import Context
from retrieval_draft.step import DraftOptions, VerifyCost
from retrieval_draft.v1 import store_pb2 as pb


class _Ended(Exception):
    """The caller is gone."""


class _Pace:
    """After every replayed sequence: wait as long as it took, and end if nobody waits for the answer."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self._began = time.monotonic()

    def __call__(self) -> None:
        took = time.monotonic() - self._began
        if self.ended.wait(took):
            raise _Ended
        self._began = time.monotonic()


class Advising:
    """One server's replays."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._replaying = threading.Lock()

    def advise(
        self, message: pb.AdviseRequest, tenant: str, context: Context
    ) -> Iterator[pb.AdviseResponse]:
        """Progress before every replay, and the advice last."""
        state = self._engine.stores.state(tenant, message.namespace)
        cost = self._cost(message)
        if not self._replaying.acquire(blocking=False):
            raise ResourceExhausted(
                "one namespace is replayed for advice at a time: ask again later"
            )
        pace = _Pace()
        try:
            if not context.add_callback(pace.ended.set):
                return
            for progress in Adviser(state, self._engine.config, cost, pace).advise():
                yield _encoded(progress)
        except _Ended:
            return
        finally:
            self._replaying.release()

    def _cost(self, message: pb.AdviseRequest) -> VerifyCost | None:
        nodes = column(message.cost_nodes, np.int32, "cost_nodes")
        milliseconds = column(message.cost_milliseconds, np.float32, "cost_milliseconds")
        if not len(nodes) and not len(milliseconds):
            return None
        options = DraftOptions(verify_cost=VerifyCost(nodes, milliseconds))
        return checked(options, self._engine.config).verify_cost


def _encoded(progress: Progress) -> pb.AdviseResponse:
    return pb.AdviseResponse(
        replays_done=progress.done,
        replays=progress.replays,
        sequences=progress.sequences,
        tokens=progress.tokens,
        advice=[
            pb.Advice(
                kind=one.kind,
                text=one.text,
                action=one.action,
                now=one.now,
                then=one.then,
                unit=one.unit,
            )
            for one in progress.advice
        ],
    )
