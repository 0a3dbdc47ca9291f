"""A way to a drafter that never waits to get there: what takes long happens in a thread of its own.

Connecting, starting an engine, loading what was learned and making namespaces take milliseconds to
minutes. Until the thread has done it, calls raise Unreachable at once, and their caller goes on without.
"""

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from retrieval_draft.client import CALL_SECONDS_MAX, Client, ensure_namespace
from retrieval_draft.errors import DraftError, NotFound, Unreachable
from retrieval_draft.step import StepRequest, StepResponse
from retrieval_draft.v1 import store_pb2

log = logging.getLogger(__name__)

_WIDTH = "the width of observations"
CLOSE_SECONDS_MAX = 10.0
"""Until the client is left to the thread: it is closed when what is under way ends."""

_Done = store_pb2.Namespace | int | DraftError


class BackgroundClient:
    """A Client over the one that `connect` makes. One thread calls it; `connect` may raise and is tried
    again with the next errand.

    `create_namespace` makes or finds the namespace, whoever made it (`ensure_namespace`).
    """

    def __init__(self, connect: Callable[[], Client]) -> None:
        self._connect = connect
        self._client: Client | None = None
        self._done: dict[str, _Done] = {}
        self._under_way: set[str] = set()
        self._errands: queue.SimpleQueue[
            tuple[str, Callable[[Client], store_pb2.Namespace | int]] | None
        ] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    def prepare(self, namespace: store_pb2.CreateNamespaceRequest) -> None:
        """Begin what the first step would begin; returns at once."""
        for call in (
            lambda: self.create_namespace(namespace),
            lambda: self.observation_width(CALL_SECONDS_MAX),
        ):
            with suppress(Unreachable):  # under way
                call()

    def send(self, request: StepRequest) -> None:
        with self._forgetting():
            self._ready().send(request)

    def receive(self, step_id: int, seconds_max: float) -> StepResponse | None:
        with self._forgetting():
            return self._ready().receive(step_id, seconds_max)

    def observation_width(self, seconds_max: float) -> int:
        found = self._outcome(_WIDTH, lambda client: client.observation_width(CALL_SECONDS_MAX))
        assert isinstance(found, int)
        return found

    def hidden_width(self, seconds_max: float) -> int:
        """No stack shows any."""
        return 0

    def create_namespace(
        self, request: store_pb2.CreateNamespaceRequest, seconds_max: float = CALL_SECONDS_MAX
    ) -> store_pb2.Namespace:
        return self._namespace(
            f"made {request.namespace}", lambda client: ensure_namespace(client, request)
        )

    def get_namespace(
        self, namespace: str, seconds_max: float = CALL_SECONDS_MAX
    ) -> store_pb2.Namespace:
        return self._namespace(f"found {namespace}", lambda client: client.get_namespace(namespace))

    def stats(self, namespace: str = "") -> store_pb2.Stats:
        return self._ready().stats(namespace)

    def close(self) -> None:
        """Errands that have not begun are dropped; waits up to CLOSE_SECONDS_MAX for one that has."""
        self._closed = True
        self._errands.put(None)
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS_MAX)

    @contextmanager
    def _forgetting(self) -> Iterator[None]:
        try:
            yield
        except NotFound:
            # The namespace is gone, or the whole store: what was made must be made again.
            self._done.clear()
            raise

    def _ready(self) -> Client:
        if self._client is None or self._closed:
            raise Unreachable("the drafter is not there yet")
        return self._client

    def _namespace(
        self, name: str, errand: Callable[[Client], store_pb2.Namespace]
    ) -> store_pb2.Namespace:
        found = self._outcome(name, errand)
        assert isinstance(found, store_pb2.Namespace)
        return found

    def _outcome(
        self, name: str, errand: Callable[[Client], store_pb2.Namespace | int]
    ) -> store_pb2.Namespace | int:
        """What the errand of this name came to. Raises its error, once, or Unreachable until it is done."""
        done = self._done.get(name)
        if isinstance(done, DraftError):
            del self._done[name]
            raise done
        if done is not None:
            return done
        if name not in self._under_way and not self._closed:
            self._under_way.add(name)
            self._errands.put((name, errand))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="drafter-way", daemon=True)
                self._thread.start()
        raise Unreachable("the drafter is not there yet")

    def _run(self) -> None:
        self._run_errands()
        # Here, so that a client is closed too that was made after `close` had given up waiting.
        if self._client is not None:
            try:
                self._client.close()
            except Exception:
                log.exception("the drafter could not be left in order")

    def _run_errands(self) -> None:
        while (task := self._errands.get()) is not None and not self._closed:
            name, errand = task
            done: _Done
            try:
                if self._client is None:
                    self._client = self._connect()
                done = errand(self._client)
            except DraftError as error:
                done = error
            except Exception as error:
                log.exception("the way to the drafter failed")
                done = DraftError(f"{type(error).__name__} on the way to the drafter")
            self._done[name] = done
            self._under_way.discard(name)
