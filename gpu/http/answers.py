"""Answers in OpenAI's shapes: whole ones, events of a stream, and errors."""

import time
import uuid
from collections.abc import Sequence

from retrieval_draft.errors import (
    DraftError,
    FailedPrecondition,
    InvalidInput,
    NotFound,
    ResourceExhausted,
    Unreachable,
)
from retrieval_draft.gpu.http.choices import Choice, Piece, TokenLogprob
from retrieval_draft.gpu.request import Figures, Total

Json = dict[str, object]


class Shape:
    """How a kind of answer names its parts. `offsets`: characters out so far, by choice."""

    whole, event, prefix = "text_completion", "text_completion", "cmpl"

    def __init__(self, model: str) -> None:
        self._head: Json = {
            "id": f"{self.prefix}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }
        self._offsets: dict[int, int] = {}

    def answer(self, choices: Sequence[Choice], usage: Json, draft: Json | None) -> Json:
        """The whole answer."""
        made = [self._whole(index, choice) for index, choice in enumerate(choices)]
        extra = {} if draft is None else {"draft": draft}
        return self._head | {"object": self.whole, "choices": made, "usage": usage} | extra

    def opening(self, index: int) -> Json | None:
        """An event before a choice's first text, where the shape has one."""
        return None

    def event_of(self, index: int, piece: Piece) -> Json:
        """One event of a stream."""
        return self._event([self._part(index, piece)])

    def closing(self, usage: Json, draft: Json | None) -> Json:
        """The last event, where usage or drafting figures were asked for."""
        extra = {} if draft is None else {"draft": draft}
        return self._event([]) | {"usage": usage} | extra

    def _event(self, choices: list[Json]) -> Json:
        return self._head | {"object": self.event, "choices": choices}

    def _whole(self, index: int, choice: Choice) -> Json:
        return {
            "index": index,
            "text": choice.text,
            "logprobs": self._logprobs(index, choice.logprobs),
            "finish_reason": choice.finish_reason,
        }

    def _part(self, index: int, piece: Piece) -> Json:
        return {
            "index": index,
            "text": piece.text,
            "logprobs": self._logprobs(index, piece.logprobs),
            "finish_reason": piece.finish_reason,
        }

    def _logprobs(self, index: int, found: list[TokenLogprob]) -> Json | None:
        if not found:
            return None
        offsets, at = [], self._offsets.get(index, 0)
        for one in found:
            offsets.append(at)
            at += len(one.text)
        self._offsets[index] = at
        return {
            "tokens": [one.text for one in found],
            "token_logprobs": [one.logprob for one in found],
            "top_logprobs": [dict(one.top) for one in found],
            "text_offset": offsets,
        }


class ChatShape(Shape):
    """Chat completions: messages and deltas in place of text."""

    whole, event, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"

    def opening(self, index: int) -> Json | None:
        delta = {"role": "assistant", "content": ""}
        return self._event([{"index": index, "delta": delta, "finish_reason": None}])

    def _whole(self, index: int, choice: Choice) -> Json:
        return {
            "index": index,
            "message": {"role": "assistant", "content": choice.text},
            "logprobs": self._logprobs(index, choice.logprobs),
            "finish_reason": choice.finish_reason,
        }

    def _part(self, index: int, piece: Piece) -> Json:
        return {
            "index": index,
            "delta": {"content": piece.text} if piece.text else {},
            "logprobs": self._logprobs(index, piece.logprobs),
            "finish_reason": piece.finish_reason,
        }

    def _logprobs(self, index: int, found: list[TokenLogprob]) -> Json | None:
        if not found:
            return None
        return {
            "content": [
                _named(one.text, one.logprob) | {"top_logprobs": [_named(*top) for top in one.top]}
                for one in found
            ]
        }


def usage_of(prompt_tokens: int, figures: Sequence[Figures]) -> Json:
    """Tokens in and out, of all choices."""
    out = sum(one.output_tokens for one in figures)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": out,
        "total_tokens": prompt_tokens + out,
    }


def draft_of(figures: Sequence[Figures]) -> Json:
    """What drafting brought. `mat`: tokens per step over all steps, the bonus token included;
    `mean_accepted_length` as vLLM has it: 1 + accepted / drafted steps.
    """
    total = Total.of(figures)
    return {
        "steps": total.steps,
        "drafted_steps": total.drafted_steps,
        "drafted": total.drafted,
        "accepted": total.accepted,
        "mat": round(total.mat, 4),
        "acceptance_rate": round(total.acceptance_rate, 4),
        "mean_accepted_length": round(total.mean_accepted_length, 4),
    }


def status_of(error: Exception) -> int:
    """The HTTP status of an error."""
    if not isinstance(error, DraftError):
        return 500
    kinds: dict[type[DraftError], int] = {
        InvalidInput: 400,
        FailedPrecondition: 400,
        NotFound: 404,
        ResourceExhausted: 429,
        Unreachable: 503,
    }
    return next((status for kind, status in kinds.items() if isinstance(error, kind)), 500)


def error_of(error: Exception) -> Json:
    """The error in OpenAI's shape; one that is not ours says nothing of what happened inside."""
    status = status_of(error)
    names = {400: "invalid_request_error", 404: "not_found_error", 429: "rate_limit_error"}
    return {
        "error": {
            "message": str(error) if status != 500 else "internal error",
            "type": names.get(status, "server_error"),
            "param": error.field if isinstance(error, InvalidInput) else None,
            "code": status,
        }
    }


def _named(text: str, logprob: float) -> Json:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}
