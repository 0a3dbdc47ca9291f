"""One engine's DraftStream call, as the gRPC client drives it."""

import queue
import threading
import time

import grpc
from google.protobuf.message import DecodeError

from retrieval_draft import errors
from retrieval_draft.call_errors import error_of
from retrieval_draft.errors import DraftError, Unreachable
from retrieval_draft.step import StepRequest, StepResponse
from retrieval_draft.v1 import draft_pb2
from retrieval_draft.wire import decode_response, encode_request

Metadata = tuple[tuple[str, str], ...]


class DraftStream:
    """One call, whose answers are waited for with a deadline.

    gRPC hands every answer over in a thread of its own, as a deserialiser's argument; from there it goes
    straight to who waits. A thread that reads the call asks gRPC for the next one, and says why it ended.
    """

    def __init__(self, channel: grpc.Channel, metadata: Metadata) -> None:
        self.broken = False
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._error: DraftError = Unreachable("the stream was closed")
        self._count = 0
        open_stream: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
            "/retrieval_draft.v1.DraftService/DraftStream",
            request_serializer=None,
            response_deserializer=self._arrived,
        )
        self._call = open_stream(iter(self._requests.get, None), metadata=metadata)
        threading.Thread(target=self._read, name="draft-stream", daemon=True).start()

    def send(self, request: StepRequest) -> None:
        self._count = len(request.sequences)
        self._requests.put(encode_request(request).SerializeToString())

    def receive(self, step_id: int, seconds_max: float) -> StepResponse | None:
        """The answer to that step, the newest that was sent; None if it has not come by then."""
        deadline = time.monotonic() + seconds_max
        while True:
            try:
                data = self._answers.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return None
            if data is None:
                self._answers.put(None)
                raise self._error
            try:
                message = draft_pb2.DraftResponse.FromString(data)
            except DecodeError as error:
                self.close()
                raise errors.Corrupt("the sidecar's answer is malformed") from error
            if message.step_id == step_id:
                return decode_response(message, self._count)

    def close(self) -> None:
        self.broken = True
        self._requests.put(None)
        self._call.cancel()

    def _arrived(self, data: bytes) -> bytes:
        self._answers.put(data)
        return data

    def _read(self) -> None:
        error: DraftError = Unreachable("the sidecar closed the stream")
        try:
            for _ in self._call:
                pass
        except grpc.RpcError as broken:
            error = error_of(broken, "the sidecar")
        except Exception as other:
            # A call that nobody reads any more must not be waited for again.
            error = Unreachable(f"the stream could not be read: {type(other).__name__}")
        self.broken, self._error = True, error
        self._answers.put(None)
        # Lets the thread end that feeds the call.
        self._requests.put(None)
