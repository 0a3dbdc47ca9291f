"""The model's tokenizer, and text from tokens as they arrive."""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from retrieval_draft import tokenizer
from retrieval_draft.errors import FailedPrecondition, InvalidInput

STOPS_MAX = 16
STOP_CHARACTERS_MAX = 256
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
REPLACEMENTS_OPEN_MAX = 3  # a character cut off after 1 to 3 bytes decodes to at most so many
WINDOW_TOKENS_MAX = 64  # decoded again per token, where no character ends for so long


def load_tokenizer(path_or_id: str | Path) -> Tokenizer:
    """Of a folder that has a tokenizer.json, without the network; else through transformers.

    Raises FailedPrecondition if there is none that the `tokenizers` library can run.
    """
    if (Path(path_or_id) / "tokenizer.json").exists():
        return tokenizer.load_tokenizer(path_or_id)
    from transformers import AutoTokenizer  # slow to import, and seldom needed

    try:
        loaded = AutoTokenizer.from_pretrained(
            str(path_or_id), local_files_only=Path(path_or_id).exists()
        )
    except Exception as error:  # tokenizers raises bare Exceptions
        raise FailedPrecondition(f"tokenizer of {path_or_id} cannot be loaded: {error}") from error
    backend = getattr(loaded, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise FailedPrecondition(f"{path_or_id} has no tokenizer.json, and none can be made")
    return backend


def check_stops(stops: Sequence[str]) -> None:
    """Raises InvalidInput for too many stop strings, and for one that is empty or too long."""
    if len(stops) > STOPS_MAX:
        raise InvalidInput("stop", f"{len(stops)} strings", f"{STOPS_MAX} strings")
    for stop in stops:
        if not 1 <= len(stop) <= STOP_CHARACTERS_MAX:
            raise InvalidInput("stop", stop, f"1 to {STOP_CHARACTERS_MAX} characters each")


class TextStream:
    """The text of a growing token sequence, cut before the first stop string.

    What `push` and `flush` return, joined, is the text. Text that may become a stop string, or a
    character whose bytes are incomplete, waits for the next push.
    """

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str] = ()) -> None:
        self._tokenizer, self._stops = tokenizer, tuple(stops)
        self._tokens: list[int] = []
        # Text is made from the tokens from `_start` on, of which `_shown` characters are out. The
        # window begins a little early: many decoders treat the first token of a text differently.
        self._start = self._boundary = self._shown = 0
        self._held = ""
        self.is_stopped = False

    def push(self, tokens: Sequence[int]) -> str:
        """The text that these tokens make certain."""
        if self.is_stopped:
            return ""
        for token in tokens:
            self._tokens.append(token)
            self._held += self._decoded(is_last=False)
        return self._released(is_last=False)

    def flush(self) -> str:
        """The rest, at the end of the sequence."""
        if self.is_stopped:
            return ""
        self._held += self._decoded(is_last=True)
        return self._released(is_last=True)

    def _decoded(self, *, is_last: bool) -> str:
        text = self._tokenizer.decode(self._tokens[self._start :])
        certain = len(text)
        is_open = (
            text.endswith(REPLACEMENT) and len(self._tokens) - self._start <= WINDOW_TOKENS_MAX
        )
        if is_open and not is_last:
            certain = max(len(text.rstrip(REPLACEMENT)), len(text) - REPLACEMENTS_OPEN_MAX)
        piece = text[self._shown : certain]
        self._shown = max(self._shown, certain)
        if certain == len(text):
            self._start, self._boundary = self._boundary, len(self._tokens)
            self._shown = len(self._tokenizer.decode(self._tokens[self._start :]))
        return piece

    def _released(self, *, is_last: bool) -> str:
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            self.is_stopped = True
            return self._held[: min(found)]
        keep = (
            0 if is_last else max((_overlap(self._held, stop) for stop in self._stops), default=0)
        )
        end = len(self._held) - keep
        released, self._held = self._held[:end], self._held[end:]
        return released


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` begin `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
