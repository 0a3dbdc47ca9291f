"""Text as tokens arrive: characters that take several tokens, stop strings that do."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from retrieval_draft.errors import FailedPrecondition
from retrieval_draft.gpu.tokenizer import TextStream, load_tokenizer
from retrieval_draft.tokenizer import fingerprint


def byte_tokenizer() -> Tokenizer:
    """A token per byte: every character beyond ASCII takes several."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


TOKENIZER = byte_tokenizer()


@settings(max_examples=100, deadline=None)
@given(
    st.text(alphabet="ab né漢🙂\n", max_size=30),
    st.lists(st.text(alphabet="abné", min_size=1, max_size=3), max_size=2),
    st.integers(1, 5),
)
def test_the_pieces_join_to_the_text_before_the_first_stop(
    text: str, stops: list[str], size: int
) -> None:
    stream = TextStream(TOKENIZER, stops)
    tokens = TOKENIZER.encode(text).ids
    pieces = [stream.push(tokens[i : i + size]) for i in range(0, len(tokens), size)]
    pieces.append(stream.flush())
    ends = [text.index(stop) for stop in stops if stop in text]
    assert stream.is_stopped == bool(ends)
    if len(stops) < 2:  # of two that overlap, the one that completes first counts
        assert "".join(pieces) == text[: min(ends, default=len(text))]
    assert not any(stop in "".join(pieces) for stop in stops)


def test_bytes_that_never_become_a_character_are_not_held_back_for_ever() -> None:
    stream = TextStream(TOKENIZER)
    half = TOKENIZER.encode("漢").ids[:1]
    pieces = [stream.push(half) for _ in range(200)]
    assert 197 <= len("".join(pieces)) <= 200
    assert len("".join(pieces) + stream.flush()) == 200


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 255), max_size=100), st.integers(1, 5))
def test_the_pieces_of_any_tokens_join_to_their_text(tokens: list[int], size: int) -> None:
    stream = TextStream(TOKENIZER)
    pieces = [stream.push(tokens[i : i + size]) for i in range(0, len(tokens), size)]
    assert "".join(pieces) + stream.flush() == TOKENIZER.decode(tokens)


def test_a_folder_gives_its_tokenizer_or_says_that_it_has_none(tmp_path: Path) -> None:
    TOKENIZER.save(str(tmp_path / "tokenizer.json"))
    assert fingerprint(load_tokenizer(tmp_path)) == fingerprint(TOKENIZER)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(FailedPrecondition, match="cannot be loaded"):
        load_tokenizer(tmp_path)
