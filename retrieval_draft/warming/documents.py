"""What a source gives: documents, and what could not be read."""

from collections.abc import Iterator
from dataclasses import dataclass

from retrieval_draft.tree import Int32Array

PART_CHARACTERS_MAX = 1 << 21
PART_TOKENS_MAX = 1 << 21
"""A longer text, or longer ids, are cut into documents of at most so much: it bounds memory and messages."""
NAME_CHARACTERS_MAX = 1024


@dataclass(frozen=True, slots=True)
class Text:
    """One document before tokenising."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Ids:
    """One document that was tokenised elsewhere."""

    name: str
    ids: Int32Array


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that is no document, and why."""

    name: str
    reason: str


Document = Text | Ids
Found = Document | Skipped


class Unreadable(Exception):
    """A file or record that is no document; its text is the reason."""


def parts(document: Document) -> Iterator[Document]:
    """The document, or pieces of it that are no longer than allowed; texts are cut behind a line's end."""
    if isinstance(document, Ids):
        for number, start in enumerate(range(0, len(document.ids), PART_TOKENS_MAX), start=1):
            yield Ids(
                part_name(document.name, number), document.ids[start : start + PART_TOKENS_MAX]
            )
        return
    text, number = document.text, 1
    while text:
        end = cut(text)
        yield Text(part_name(document.name, number), text[:end])
        text, number = text[end:], number + 1


def cut(text: str) -> int:
    """Where the first piece of a text ends."""
    if len(text) <= PART_CHARACTERS_MAX:
        return len(text)
    return text.rfind("\n", 0, PART_CHARACTERS_MAX) + 1 or PART_CHARACTERS_MAX


def part_name(name: str, number: int) -> str:
    """Of a document's piece: the first has the document's name; a long name keeps its end."""
    suffix = f"#{number}" if number > 1 else ""
    return name[-(NAME_CHARACTERS_MAX - len(suffix)) :] + suffix
