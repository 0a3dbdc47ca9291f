"""The one thread that runs the decoder, and the queues by which request handlers talk to it."""

import logging
import threading
from collections import deque
from collections.abc import Iterator
from queue import SimpleQueue

from retrieval_draft.errors import DraftError, ResourceExhausted, Unreachable
from retrieval_draft.gpu.decoder import Decoder
from retrieval_draft.gpu.request import Committed, Finish, Request

WAITING_MAX = 256
ABORT_SECONDS_MAX = 30.0  # how long `stop` waits for the step that is under way

logger = logging.getLogger(__name__)


class Stream:
    """What one sequence gains, in order; iterating ends after the message that has `finish` set."""

    def __init__(self, sequence_id: str) -> None:
        self.sequence_id = sequence_id
        self._messages: SimpleQueue[Committed | Exception] = SimpleQueue()

    def put(self, message: Committed | Exception) -> None:
        self._messages.put(message)

    def __iter__(self) -> Iterator[Committed]:
        """Blocks until there is something. Raises what ended the sequence, if it was an error."""
        while True:
            message = self._messages.get()
            if isinstance(message, Exception):
                raise message
            yield message
            if message.finish is not None:
                return


class DecodingThread:
    """Decodes whatever is submitted, from `start` to `stop`. All methods are safe from any thread.

    Between two steps at most one chunk of one prompt is prefilled, so that neither a burst of prompts
    nor a long one halts the running sequences. Sequences begin in the order they were submitted.
    """

    def __init__(self, decoder: Decoder, *, waiting_max: int = WAITING_MAX) -> None:
        self._decoder, self._waiting_max = decoder, waiting_max
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Request, Stream]] = deque()
        self._cancelled: dict[str, Finish] = {}
        self._is_stopping = self._is_aborting = False
        self._streams: dict[str, Stream] = {}  # of sequences that have begun; the thread's own
        self._prefilling = ""
        self._thread = threading.Thread(target=self._run, name="decoding", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Sequences that have not begun."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Sequences that have begun."""
        return len(self._streams)

    def submit(self, request: Request, stream: Stream | None = None) -> Stream:
        """Queue a sequence; what it gains goes to `stream`, or to one of its own.

        Raises InvalidInput, ResourceExhausted; Unreachable when stopping.
        """
        self._decoder.check(request)
        stream = stream or Stream(request.sequence_id)
        with self._changed:
            if self._is_stopping:
                raise Unreachable("the worker is shutting down")
            if len(self._waiting) >= self._waiting_max:
                raise ResourceExhausted(f"{self._waiting_max} requests are waiting already")
            self._waiting.append((request, stream))
            self._changed.notify()
        return stream

    def cancel(self, sequence_id: str, finish: Finish = Finish.CANCELLED) -> None:
        """End a sequence before its next step, waiting or running; unknown ones are ignored."""
        with self._changed:
            self._cancelled[sequence_id] = finish
            self._changed.notify()

    def stop(self, grace_seconds: float = 0.0) -> None:
        """Take no more requests, let running ones finish for so long, cancel the rest, end."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        self._thread.join(grace_seconds)
        with self._changed:
            self._is_aborting = True
            self._changed.notify()
        self._thread.join(ABORT_SECONDS_MAX)

    def _run(self) -> None:
        while self._wait():
            self._cancel_asked()
            self._begin_one()
            self._prefill()
            try:
                for committed in self._decoder.step():
                    self._deliver(committed)
            except Exception as error:  # a forward that failed, e.g. out of memory, hits them all
                logger.exception("step failed sequences=%d", self._decoder.active)
                for sequence_id in list(self._streams):
                    self._end(sequence_id, error)

    def _wait(self) -> bool:
        """Sleep until there is work; False when there is none and the thread should end."""
        with self._changed:
            while not (self._waiting or self._streams):
                self._cancelled.clear()
                if self._is_stopping:
                    return False
                self._changed.wait()
            if self._is_aborting:
                running = [*self._streams, *(request.sequence_id for request, _ in self._waiting)]
                self._cancelled.update(dict.fromkeys(running, Finish.CANCELLED))
        return True

    def _cancel_asked(self) -> None:
        with self._changed:
            cancelled, self._cancelled = self._cancelled, {}
            if not cancelled:
                return
            gone = [entry for entry in self._waiting if entry[0].sequence_id in cancelled]
            for entry in gone:
                self._waiting.remove(entry)
        for _, stream in gone:
            stream.put(Unreachable("the request was cancelled before it began"))
        for sequence_id, finish in cancelled.items():
            if sequence_id in self._streams:
                self._deliver(self._decoder.cancel(sequence_id, finish))

    def _begin_one(self) -> None:
        if not self._decoder.has_room():
            return
        with self._changed:
            if not self._waiting:
                return
            request, stream = self._waiting.popleft()
        try:
            self._decoder.begin(request)
        except Exception as error:
            if not isinstance(error, DraftError):
                logger.exception("a sequence cannot begin")
            stream.put(error)
            return
        self._streams[request.sequence_id] = stream
        self._prefilling = request.sequence_id

    def _prefill(self) -> None:
        try:
            committed = self._decoder.prefill()
        except Exception as error:
            logger.exception("prefill failed")
            self._streams.pop(self._prefilling).put(error)
            return
        if committed is not None:
            self._deliver(committed)

    def _deliver(self, committed: Committed) -> None:
        stream = self._streams[committed.sequence_id]
        stream.put(committed)
        if committed.finish is not None:
            del self._streams[committed.sequence_id]

    def _end(self, sequence_id: str, error: Exception) -> None:
        stream = self._streams.pop(sequence_id)
        stream.put(error)
        try:
            self._decoder.cancel(sequence_id)
        except Exception:
            logger.exception("cancelling failed")
