"""From the decoding thread to the event loop: what the sequences of one request gain, as it comes."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from retrieval_draft.gpu.decoding_thread import DecodingThread, Stream
from retrieval_draft.gpu.request import Committed, Request


class Sequences:
    """The sequences of one request. Use as an async context: leaving it frees what still runs."""

    def __init__(self, thread: DecodingThread) -> None:
        self._thread = thread
        self._queue: asyncio.Queue[tuple[int, Committed | Exception]] = asyncio.Queue()
        self._open: dict[int, str] = {}

    async def __aenter__(self) -> "Sequences":
        return self

    async def __aexit__(self, *_: object) -> None:
        for sequence_id in self._open.values():
            self._thread.cancel(sequence_id)

    def submit(self, requests: Sequence[Request]) -> None:
        """Queue all of them. Raises as DecodingThread.submit."""
        loop = asyncio.get_running_loop()
        for index, request in enumerate(requests):
            self._thread.submit(request, _Forwarding(request.sequence_id, loop, self._queue, index))
            self._open[index] = request.sequence_id

    async def committed(self) -> AsyncIterator[tuple[int, Committed]]:
        """Index of the request and what it gained, until all have ended. Raises what ended one."""
        while self._open:
            index, message = await self._queue.get()
            if index not in self._open:  # ended by `close`; this was under way
                continue
            if isinstance(message, Exception):
                del self._open[index]
                raise message
            if message.finish is not None:
                del self._open[index]
            yield index, message

    def close(self, index: int) -> None:
        """This one has enough: free its slot."""
        if (sequence_id := self._open.pop(index, None)) is not None:
            self._thread.cancel(sequence_id)


class _Forwarding(Stream):
    """Hands messages over to an event loop instead of to an iterating thread."""

    def __init__(
        self,
        sequence_id: str,
        loop: asyncio.AbstractEventLoop,
        queue: "asyncio.Queue[tuple[int, Committed | Exception]]",
        index: int,
    ) -> None:
        super().__init__(sequence_id)
        self._loop, self._queue, self._index = loop, queue, index

    def put(self, message: Committed | Exception) -> None:
        try:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, (self._index, message))
        except RuntimeError:  # the loop has ended: nobody is there to hear it
            return
