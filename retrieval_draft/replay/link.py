"""A TCP proxy that can be slow or broken: what a network does to a Redis, on purpose.

`bench stall` and the tests put it between a sidecar and its Redis.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any

CHUNK_BYTES = 65_536
START_SECONDS_MAX = 10.0
RESET = struct.pack("ii", 1, 0)  # SO_LINGER 0: close sends a reset

Address = tuple[str, int] | str


class Link:
    """Listens on `port` of the loopback and passes all on to the target, a host and port or a socket.

    It runs in a thread of its own, from `start` to `stop`. All may be called from any thread.
    """

    def __init__(self, target: Address) -> None:
        self._target = target
        self.delay_seconds = 0.0
        """Of everything, each way; order and throughput stay."""
        self.refuses = False
        """New connections are reset at once."""
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._there: asyncio.Event
        self._back: asyncio.Event
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self._ended: asyncio.Event
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)

    def start(self) -> "Link":
        """Listens when it returns."""
        self._thread.start()
        if not self._ready.wait(START_SECONDS_MAX):
            raise RuntimeError("the link does not start")
        return self

    def stop(self) -> None:
        """Reset what is connected, and end."""
        self.reset()
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    def hold(self, *, back_only: bool = False) -> None:
        """Let nothing through, or no answers only: connections stay, what is sent is kept."""
        if not back_only:
            self._loop.call_soon_threadsafe(self._there.clear)
        self._loop.call_soon_threadsafe(self._back.clear)

    def release(self) -> None:
        """Let through again, beginning with what was kept."""
        self._loop.call_soon_threadsafe(self._there.set)
        self._loop.call_soon_threadsafe(self._back.set)

    def reset(self) -> None:
        """Break every connection."""
        self._do(self._reset())

    def cut(self) -> None:
        """A partition: connections break, and new ones are refused."""
        self.refuses = True
        self.reset()

    def mend(self) -> None:
        """The end of a partition."""
        self.refuses = False
        self.release()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(START_SECONDS_MAX)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._there, self._back, self._ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._there.set()
        self._back.set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._ended.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _reset(self) -> None:
        for writer in list(self._open):
            _break(writer)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuses:
            _break(writer)
            return
        try:
            if isinstance(self._target, str):
                far, out = await asyncio.open_unix_connection(self._target)
            else:
                far, out = await asyncio.open_connection(*self._target)
        except OSError:
            _break(writer)
            return
        self._open |= {writer, out}
        for task in (self._carry(reader, out, self._there), self._carry(far, writer, self._back)):
            running = asyncio.create_task(task)
            self._tasks.add(running)
            running.add_done_callback(self._tasks.discard)

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: asyncio.Event
    ) -> None:
        """One direction of a connection, to its end."""
        due: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        sending = asyncio.create_task(self._send(due, writer, way))
        try:
            while data := await reader.read(CHUNK_BYTES):
                due.put_nowait((self._loop.time() + self.delay_seconds, data))
        except OSError:
            pass
        finally:
            due.put_nowait((self._loop.time() + self.delay_seconds, b""))
        with contextlib.suppress(OSError):
            await sending

    async def _send(
        self,
        due: "asyncio.Queue[tuple[float, bytes]]",
        writer: asyncio.StreamWriter,
        way: asyncio.Event,
    ) -> None:
        try:
            while True:
                at, data = await due.get()
                await asyncio.sleep(max(0.0, at - self._loop.time()))
                await way.wait()
                if not data:
                    return
                writer.write(data)
                await writer.drain()
        finally:
            self._open.discard(writer)
            writer.close()


def _break(writer: asyncio.StreamWriter) -> None:
    connected = writer.get_extra_info("socket")
    if connected is not None and connected.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
