"""The routes: OpenAI's completions, chat completions and models; health and metrics beside them."""

import asyncio
import logging
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from tokenizers import Tokenizer

from retrieval_draft.chat_template import ChatTemplate
from retrieval_draft.errors import FailedPrecondition, InvalidInput, NotFound, ResourceExhausted
from retrieval_draft.gpu.decoder import Decoder
from retrieval_draft.gpu.decoding_thread import DecodingThread
from retrieval_draft.gpu.http.answers import (
    ChatShape,
    Json,
    Shape,
    draft_of,
    error_of,
    status_of,
    usage_of,
)
from retrieval_draft.gpu.http.choices import Choice, Piece
from retrieval_draft.gpu.http.metrics import Metrics
from retrieval_draft.gpu.http.requests import Asked, ChatCompletion, Completion, decoded
from retrieval_draft.gpu.http.streams import Sequences
from retrieval_draft.gpu.request import Figures, Request
from retrieval_draft.gpu.sampling import SamplingOptions
from retrieval_draft.tree import Int32Array, int32s

BODY_BYTES_MAX = 16 << 20
TEMPERATURE_DEFAULT = 1.0  # as OpenAI's

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """One HTTP request as sequences; `prompt_tokens` counts every prompt once."""

    asked: Asked
    shape: Shape
    requests: list[Request]
    choices: list[Choice]
    prompt_tokens: int


class OpenAIService:
    """Answers for one decoder and one tokenizer. The only model is the one that the worker serves."""

    def __init__(
        self,
        decoder: Decoder,
        thread: DecodingThread,
        tokenizer: Tokenizer,
        template: ChatTemplate | None,
        model: str,
        metrics: Metrics,
    ) -> None:
        self._decoder, self._thread, self._metrics = decoder, thread, metrics
        self._tokenizer, self._template, self._model = tokenizer, template, model
        self._created = int(time.time())

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/v1/completions", self._completions, methods=["POST"]),
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/v1/models", self._models),
                Route("/v1/models/{model:path}", self._one_model),
                Route("/health", self._health),
                Route("/metrics", self._text),
            ],
            exception_handlers={404: _no_route, 405: _no_route, Exception: _failed},
        )

    async def _health(self, http: HttpRequest) -> Response:
        return Response(b"ok")

    async def _text(self, http: HttpRequest) -> Response:
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4")

    async def _models(self, http: HttpRequest) -> Response:
        return answered({"object": "list", "data": [self._card()]})

    async def _one_model(self, http: HttpRequest) -> Response:
        if http.path_params["model"] != self._model:
            return refused(NotFound(f"there is no model {http.path_params['model']!r}"))
        return answered(self._card())

    def _card(self) -> Json:
        return {
            "id": self._model,
            "object": "model",
            "created": self._created,
            "owned_by": "retrieval-draft",
            "max_model_len": self._decoder.length_max,
        }

    async def _completions(self, http: HttpRequest) -> Response:
        try:
            asked = decoded(await _body(http), Completion)
            self._check_model(asked)
            prompts = [self._tokens(prompt) for prompt in asked.prompts]
            return await self._answer(
                http,
                self._job(asked, Shape(self._model), prompts, asked.max_tokens, asked.logprobs),
            )
        except Exception as error:
            return refused(error)

    async def _chat(self, http: HttpRequest) -> Response:
        try:
            asked = decoded(await _body(http), ChatCompletion)
            self._check_model(asked)
            if self._template is None:
                raise FailedPrecondition(
                    "this model has no chat template: use /v1/completions, or add a chat_template "
                    "to its tokenizer_config.json"
                )
            text = self._template.render(asked.messages, add_generation_prompt=True)
            tokens_max = asked.max_completion_tokens or asked.max_tokens
            wanted = (asked.top_logprobs or 0) if asked.logprobs else None
            # The template has put the special tokens in.
            prompt = int32s(self._tokenizer.encode(text, add_special_tokens=False).ids)
            job = self._job(asked, ChatShape(self._model), [prompt], tokens_max, wanted)
            return await self._answer(http, job)
        except Exception as error:
            return refused(error)

    def _check_model(self, asked: Asked) -> None:
        if asked.model and asked.model != self._model:
            raise NotFound(f"there is no model {asked.model!r}; this worker serves {self._model!r}")

    def _tokens(self, prompt: str | list[int]) -> Int32Array:
        if isinstance(prompt, str):
            return int32s(self._tokenizer.encode(prompt).ids)
        if any(not 0 <= token < self._decoder.model.vocab_size for token in prompt):
            limit = f"token ids from 0 to {self._decoder.model.vocab_size - 1}"
            raise InvalidInput("prompt", "tokens", limit)
        return int32s(prompt)

    def _job(
        self,
        asked: Asked,
        shape: Shape,
        prompts: Sequence[Int32Array],
        tokens_max: int | None,
        logprobs: int | None,
    ) -> Job:
        seed = secrets.randbits(63) if asked.seed is None else asked.seed % 2**63
        requests: list[Request] = []
        for prompt in prompts:
            room = max(1, self._decoder.length_max - len(prompt))
            for i in range(asked.n or 1):
                request = Request(
                    sequence_id=uuid.uuid4().hex,
                    prompt=prompt,
                    tokens_max=min(tokens_max or room, room),
                    sampling=SamplingOptions(
                        TEMPERATURE_DEFAULT if asked.temperature is None else asked.temperature,
                        1.0 if asked.top_p is None else asked.top_p,
                        max(0, asked.top_k or 0),
                        seed + i,
                    ),
                    plain=not asked.drafting,
                    ignore_end=asked.ignore_eos,
                    logprobs=logprobs,
                )
                self._decoder.check(request)
                requests.append(request)
        choices = [Choice(self._tokenizer, asked.stops) for _ in requests]
        return Job(asked, shape, requests, choices, sum(len(prompt) for prompt in prompts))

    async def _answer(self, http: HttpRequest, job: Job) -> Response:
        if job.asked.stream:
            events = self._events(job)
            # Until the first event errors have their status; after it they are an event.
            first = await anext(events)
            return StreamingResponse(_joined(first, events), media_type="text/event-stream")
        async with _unless_gone(http), Sequences(self._thread) as sequences:
            async for _ in self._pieces(job, sequences):
                pass
        return answered(job.shape.answer(job.choices, self._usage(job), self._draft(job)))

    async def _events(self, job: Job) -> AsyncIterator[bytes]:
        async with Sequences(self._thread) as sequences:
            has_begun = False
            async for index, piece in self._pieces(job, sequences):
                if not has_begun:
                    has_begun = True
                    for i in range(len(job.choices)):
                        if (opening := job.shape.opening(i)) is not None:
                            yield _event(opening)
                yield _event(job.shape.event_of(index, piece))
            options = job.asked.stream_options
            if job.asked.draft_stats or (options is not None and options.include_usage):
                yield _event(job.shape.closing(self._usage(job), self._draft(job)))
            yield b"data: [DONE]\n\n"

    async def _pieces(self, job: Job, sequences: Sequences) -> AsyncIterator[tuple[int, Piece]]:
        """What each choice gains, as it comes; the choices of the job grow with it."""
        began, has_first = time.perf_counter(), [False] * len(job.choices)
        sequences.submit(job.requests)
        async for index, committed in sequences.committed():
            if not has_first[index]:
                has_first[index] = True
                self._metrics.first_token(time.perf_counter() - began)
            piece = job.choices[index].push(committed)
            if piece.finish_reason is not None:
                sequences.close(index)
                seconds = time.perf_counter() - began
                self._metrics.ended(committed.figures, piece.finish_reason, seconds)
            if piece.text or piece.finish_reason is not None or piece.logprobs:
                yield index, piece

    def _usage(self, job: Job) -> Json:
        return usage_of(job.prompt_tokens, _figures(job))

    def _draft(self, job: Job) -> Json | None:
        return draft_of(_figures(job)) if job.asked.draft_stats else None


def answered(value: Json, status: int = 200) -> Response:
    """A JSON response."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def refused(error: Exception) -> Response:
    """The error in OpenAI's shape; one of ours in the log as well, with its traceback."""
    if isinstance(error, (ClientDisconnect, asyncio.CancelledError)):
        return Response(status_code=499)  # nobody reads it
    status = status_of(error)
    if status == 500:
        log.error("a request failed", exc_info=error)
    return answered(error_of(error), status)


async def _body(http: HttpRequest) -> bytes:
    parts, size = [], 0
    async for part in http.stream():
        size += len(part)
        if size > BODY_BYTES_MAX:
            raise ResourceExhausted(f"the body is larger than {BODY_BYTES_MAX} bytes")
        parts.append(part)
    return b"".join(parts)


@asynccontextmanager
async def _unless_gone(http: HttpRequest) -> AsyncIterator[None]:
    """Cancels what is inside when the client goes away."""
    task = asyncio.current_task()
    assert task is not None

    async def watch() -> None:
        while (await http.receive())["type"] != "http.disconnect":
            pass
        task.cancel()

    watching = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not watching.done():  # the server ends, not the client
            raise
        raise ClientDisconnect from None
    finally:
        watching.cancel()


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    try:
        async for event in rest:
            yield event
    except Exception as error:
        if status_of(error) == 500:
            log.error("a stream failed", exc_info=error)
        yield _event(error_of(error))


async def _no_route(http: HttpRequest, error: Exception) -> Response:
    return answered(error_of(NotFound(f"nothing is served at {http.method} {http.url.path}")), 404)


async def _failed(http: HttpRequest, error: Exception) -> Response:
    return refused(error)


def _event(value: Json) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def _figures(job: Job) -> list[Figures]:
    return [choice.figures for choice in job.choices if choice.figures is not None]
