"""One record of JSON lines, Parquet or a dataset into one document."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from retrieval_draft.chat_template import ChatTemplate
from retrieval_draft.errors import InvalidInput
from retrieval_draft.tree import Int32Array, int32s
from retrieval_draft.warming.documents import Document, Ids, Text, Unreadable

KNOWN = (
    ("text",),
    ("content",),
    ("messages",),
    ("conversations",),
    ("prompt_tokens", "output_tokens"),
    ("prompt", "output"),
    ("prompt", "completion"),
    ("input_ids",),
    ("tokens",),
    ("ids",),
)
"""Fields that are taken where none is named: the first of these that a record has."""

# ShareGPT's words.
_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant"}
_TURNS = ("user", "assistant")


@dataclass(frozen=True, slots=True)
class Fields:
    """Which fields of a record make the document, and how chat turns become text.

    `names` empty: those of KNOWN. `as_turns`: the fields are what the user and the assistant say in turn.
    """

    names: tuple[str, ...] = ()
    template: ChatTemplate | None = None
    as_turns: bool = False

    def document(self, name: str, record: object) -> Document:
        """Of a text, a list of ids, a list of messages, or an object with such fields.

        Raises Unreadable with the reason.
        """
        if not isinstance(record, Mapping):
            return self._joined(name, [record])
        names = self.names or _known(record)
        missing = [one for one in names if record.get(one) is None]
        if missing:
            raise Unreadable(f"it has no field {missing[0]!r}")
        values = [record[one] for one in names]
        if self.as_turns:
            if not all(isinstance(value, str) for value in values):
                raise Unreadable(f"{' and '.join(names)} are not all text, as turns must be")
            turns = [{"role": _TURNS[i % 2], "content": v} for i, v in enumerate(values)]
            return Text(name, self._rendered(turns))
        return self._joined(name, values)

    def _joined(self, name: str, values: Sequence[object]) -> Document:
        if all(_is_ids(value) for value in values):
            return Ids(name, np.concatenate([_int32s(value) for value in values]))
        texts = [self._text(value) for value in values]
        return Text(name, "\n".join(texts))

    def _text(self, value: object) -> str:
        if isinstance(value, str):
            return value
        if isinstance(value, list) and value and all(isinstance(m, Mapping) for m in value):
            return self._rendered([_message(turn) for turn in value])
        raise Unreadable("it is neither text, token ids nor chat messages")

    def _rendered(self, messages: list[dict[str, object]]) -> str:
        if self.template is None:
            raise Unreadable("the tokenizer has no chat template")
        try:
            return self.template.render(messages)
        except InvalidInput as error:
            raise Unreadable(str(error)) from error


def json_document(name: str, line: str, fields: Fields) -> Document:
    """One line of JSON lines. Raises Unreadable."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"it is no JSON: {error}") from error
    return fields.document(name, record)


def _known(record: Mapping[str, object]) -> tuple[str, ...]:
    for names in KNOWN:
        if all(record.get(name) is not None for name in names):
            return names
    raise Unreadable("it has none of the usual fields; name one with --field")


def _message(turn: Mapping[str, object]) -> dict[str, object]:
    if "from" in turn and "value" in turn:
        role = str(turn["from"])
        return {"role": _ROLES.get(role, role), "content": turn["value"]}
    return dict(turn)


def _is_ids(value: object) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and value.dtype.kind in "iu"
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(token, int) and not isinstance(token, bool) for token in value)
    )


def _int32s(value: object) -> Int32Array:
    ids = np.asarray(value)
    if len(ids) and (ids.min() < 0 or ids.max() > np.iinfo(np.int32).max):
        raise Unreadable("it has a token id below 0 or above 2147483647")
    return int32s(ids)
