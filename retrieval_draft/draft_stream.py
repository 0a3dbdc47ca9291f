"""One engine's DraftStream call, as the gRPC client drives it."""

import queue
import threading

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
    """One call, with a thread that reads answers, so that waiting has a deadline."""

    def __init__(self, channel: grpc.Channel, metadata: Metadata) -> None:
        self.broken = False
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._counts: dict[int, int] = {}
        self._answers: dict[int, bytes] = {}
        self._error: DraftError | None = None
        self._changed = threading.Condition()
        open_stream: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
            "/retrieval_draft.v1.DraftService/DraftStream",
            request_serializer=None,
            response_deserializer=None,
        )
        self._call = open_stream(iter(self._requests.get, None), metadata=metadata)
        threading.Thread(target=self._read, name="draft-stream", daemon=True).start()

    def send(self, request: StepRequest) -> None:
        self._counts = {request.step_id: len(request.sequences)}
        self._requests.put(encode_request(request).SerializeToString())

    def receive(self, step_id: int, seconds_max: float) -> StepResponse | None:
        with self._changed:
            arrived = self._changed.wait_for(
                lambda: step_id in self._answers or self._error is not None, seconds_max
            )
            if not arrived:
                return None
            data = self._answers.pop(step_id, None)
            self._answers.clear()
            if data is None:
                assert self._error is not None
                raise self._error
        try:
            message = draft_pb2.DraftResponse.FromString(data)
        except DecodeError as error:
            raise errors.Corrupt("the sidecar's answer is malformed") from error
        return decode_response(message, self._counts.get(step_id, 0))

    def close(self) -> None:
        self.broken = True
        self._requests.put(None)
        self._call.cancel()

    def _read(self) -> None:
        error: DraftError = Unreachable("the sidecar closed the stream")
        try:
            for data in self._call:
                step_id = draft_pb2.DraftResponse.FromString(data).step_id
                with self._changed:
                    self._answers[step_id] = data
                    self._changed.notify_all()
        except grpc.RpcError as broken:
            error = error_of(broken, "the sidecar")
        except DecodeError:
            error = errors.Corrupt("the sidecar's answer is malformed")
        except Exception as other:
            # A call that nobody reads any more must not be waited for again.
            error = Unreachable(f"the stream could not be read: {type(other).__name__}")
        with self._changed:
            self.broken, self._error = True, error
            self._changed.notify_all()
        # Lets the thread end that feeds the call.
        self._requests.put(None)
