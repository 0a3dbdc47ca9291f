"""One choice of an answer: the text that its tokens make certain, with their log-probabilities."""

from dataclasses import dataclass, field

from tokenizers import Tokenizer

from retrieval_draft.gpu.request import Committed, Figures, Finish, Logprobs
from retrieval_draft.gpu.tokenizer import TextStream

FINISH_REASONS = {
    Finish.END: "stop",
    Finish.STOP: "stop",
    Finish.LENGTH: "length",
    Finish.CANCELLED: "abort",
}


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A committed token with its text, and the most probable ones in its place."""

    text: str
    logprob: float
    top: list[tuple[str, float]]


@dataclass(frozen=True, slots=True)
class Piece:
    """What came at once: text, and why the choice ended if it did."""

    text: str
    finish_reason: str | None
    logprobs: list[TokenLogprob]


@dataclass(slots=True)
class Choice:
    """Grows by `push`; `text` is all of it so far."""

    tokenizer: Tokenizer
    stops: list[str]
    text: str = ""
    finish_reason: str | None = None
    logprobs: list[TokenLogprob] = field(default_factory=list[TokenLogprob])
    figures: Figures | None = None
    _stream: TextStream = field(init=False)

    def __post_init__(self) -> None:
        self._stream = TextStream(self.tokenizer, self.stops)

    def push(self, committed: Committed) -> Piece:
        """What these tokens bring; a stop string ends the choice before the sequence has ended."""
        self.figures = committed.figures
        text = self._stream.push(committed.tokens.tolist())
        finish = committed.finish
        if finish is not None:
            text += self._stream.flush()
        if self._stream.is_stopped:
            finish = Finish.STOP
        self.finish_reason = None if finish is None else FINISH_REASONS[finish]
        found: list[TokenLogprob] = []
        if committed.logprobs is not None:
            found = self._named(committed.tokens.tolist(), committed.logprobs)
        self.text += text
        self.logprobs += found
        return Piece(text, self.finish_reason, found)

    def _named(self, tokens: list[int], logprobs: Logprobs) -> list[TokenLogprob]:
        def text_of(token: int) -> str:
            return self.tokenizer.decode([token], skip_special_tokens=False)

        return [
            TokenLogprob(
                text_of(token), chosen, [(text_of(t), v) for t, v in zip(ts, vs, strict=True)]
            )
            for token, chosen, ts, vs in zip(
                tokens,
                logprobs.chosen.tolist(),
                logprobs.tokens.tolist(),
                logprobs.values.tolist(),
                strict=True,
            )
        ]
