"""What clients send: OpenAI's completions and chat completions, and a few fields of vLLM's and ours.

Fields that this worker cannot honour are refused, not ignored, where they would change the output.
"""

from typing import Annotated, ClassVar, TypeVar

import msgspec
from msgspec import Meta

from retrieval_draft.errors import InvalidInput
from retrieval_draft.gpu.tokenizer import check_stops

TOKENS_MAX_DEFAULT = 16  # of a completion, as OpenAI's
CHOICES_MAX = 64

Count = Annotated[int, Meta(ge=1)]


class StreamOptions(msgspec.Struct, frozen=True):
    """`include_usage`: a last event with the usage of the whole request."""

    include_usage: bool = False


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What both kinds of request have."""

    model: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None  # as vLLM's; 0 or -1 keeps all
    n: Annotated[int, Meta(ge=1, le=CHOICES_MAX)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    ignore_eos: bool = False
    drafting: bool = True
    """Ours: false decodes plainly; the output's law is the same."""
    draft_stats: bool = False
    """Ours: the answer says what drafting brought."""

    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    min_p: float | None = None
    logit_bias: dict[str, float] | None = None
    response_format: dict[str, object] | None = None

    NEUTRAL: ClassVar[dict[str, object]] = {
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "repetition_penalty": 1,
        "min_p": 0,
        "logit_bias": {},
        "response_format": {"type": "text"},
    }

    @property
    def stops(self) -> list[str]:
        """The stop strings. Raises InvalidInput."""
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        check_stops(stops)
        return stops

    def refuse_unserved(self) -> None:
        """Raises InvalidInput for a field that would change the output and is not served."""
        for field, neutral in self.NEUTRAL.items():
            value = getattr(self, field, None)
            if value is not None and value != neutral:
                limit = f"left out, or {msgspec.json.encode(neutral).decode()}"
                raise InvalidInput(field, str(value), limit, "this worker does not serve it")


class Completion(Asked, frozen=True, kw_only=True):
    """POST /v1/completions."""

    prompt: str | list[str | int | list[int]]
    max_tokens: Count | None = TOKENS_MAX_DEFAULT
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    echo: bool | None = None
    best_of: int | None = None
    suffix: str | None = None

    NEUTRAL: ClassVar[dict[str, object]] = {**Asked.NEUTRAL, "echo": False, "suffix": ""}

    @property
    def prompts(self) -> list[str | list[int]]:
        """One or several prompts, as text or tokens. Raises InvalidInput for none."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        tokens = [part for part in self.prompt if isinstance(part, int)]
        several = [part for part in self.prompt if not isinstance(part, int)]
        if bool(tokens) == bool(several):
            limit = "a text, or tokens, or a list of either"
            raise InvalidInput("prompt", f"a list of {len(self.prompt)}", limit)
        return [tokens] if tokens else several

    def refuse_unserved(self) -> None:
        super().refuse_unserved()
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise InvalidInput("best_of", self.best_of, "left out, or n")


class ChatCompletion(Asked, frozen=True, kw_only=True):
    """POST /v1/chat/completions."""

    messages: Annotated[list[dict[str, object]], Meta(min_length=1)]
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: list[object] | None = None

    NEUTRAL: ClassVar[dict[str, object]] = {**Asked.NEUTRAL, "tools": []}


_Body = TypeVar("_Body", Completion, ChatCompletion)


def decoded(body: bytes, kind: type[_Body]) -> _Body:
    """The request of a body; fields that nobody knows are ignored. Raises InvalidInput."""
    try:
        asked = msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        text = str(error)
        _, _, path = text.partition(" - at `$.")
        field = path.rstrip("`") or "body"
        raise InvalidInput(field, "what was sent", text.partition(" - at ")[0]) from error
    except msgspec.DecodeError as error:
        raise InvalidInput("body", "what was sent", "a JSON object", str(error)) from error
    asked.refuse_unserved()
    return asked
