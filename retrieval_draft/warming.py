"""Texts into documents into a corpus: what `retrieval-draft warm` and the demo do."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tokenizers import Tokenizer

from retrieval_draft.client import GrpcClient, offsets_of
from retrieval_draft.errors import InvalidInput
from retrieval_draft.tree import int32s
from retrieval_draft.v1 import store_pb2 as pb

MESSAGE_TOKENS = 1 << 18
MESSAGE_DOCUMENTS = 256
TOKENIZE_TEXTS = 32


@dataclass(frozen=True, slots=True)
class Text:
    """One document before tokenising."""

    name: str
    text: str


@dataclass(slots=True)
class Warmed:
    """What a warming came to; `skipped` are files that are no text."""

    documents: int = 0
    tokens: int = 0
    documents_known: int = 0
    durability: str = ""
    corpus_documents: int = 0
    corpus_tokens: int = 0
    skipped: list[str] = field(default_factory=list)


def files_of(sources: Sequence[str]) -> list[Path]:
    """The files of these files and folders, sorted; hidden ones in folders are passed over."""
    files: list[Path] = []
    for source in sources:
        path = Path(source)
        if path.is_dir():
            inside = (p for p in path.rglob("*") if p.is_file())
            files += sorted(p for p in inside if not _is_hidden(p.relative_to(path)))
        elif path.is_file():
            files.append(path)
        else:
            raise InvalidInput("source", source, "a file, a folder, or - for standard input")
    return files


def texts_of(path: Path, json_field: str) -> Iterator[Text]:
    """A file's documents: itself, or one per line of JSON lines. UnicodeDecodeError if it is no text."""
    if path.suffix != ".jsonl":
        yield Text(str(path), path.read_text(encoding="utf-8"))
        return
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield Text(f"{path}:{number}", _field(line, json_field, f"{path}:{number}"))


def standard_input() -> Text:
    return Text("-", sys.stdin.read())


def warm(
    client: GrpcClient,
    namespace: str,
    corpus: str,
    texts: Iterable[Text],
    tokenizer: Tokenizer,
    advance: Callable[[int], None] = lambda documents: None,
) -> Warmed:
    """Tokenise and send; returns when drafts use the corpus. What is known is not stored again."""
    warmed = Warmed()

    def requests() -> Iterator[pb.WarmRequest]:
        for names, documents in _messages(texts, tokenizer):
            advance(len(names))
            yield pb.WarmRequest(
                namespace=namespace,
                corpus=corpus,
                document_offsets=offsets_of(map(len, documents)),
                tokens=b"".join(int32s(ids).tobytes() for ids in documents),
                document_names=names,
            )

    for progress in client.warm(requests()):
        warmed.documents, warmed.tokens = progress.documents, progress.tokens
        warmed.documents_known = progress.documents_known
        warmed.durability = pb.Durability.Name(progress.durability).removeprefix("DURABILITY_")
        warmed.corpus_documents = progress.corpus_documents
        warmed.corpus_tokens = progress.corpus_tokens
    return warmed


def _messages(
    texts: Iterable[Text], tokenizer: Tokenizer
) -> Iterator[tuple[list[str], list[list[int]]]]:
    names: list[str] = []
    documents: list[list[int]] = []
    tokens = 0
    for name, ids in _tokenised(texts, tokenizer):
        names.append(name)
        documents.append(ids)
        tokens += len(ids)
        if tokens >= MESSAGE_TOKENS or len(names) >= MESSAGE_DOCUMENTS:
            yield names, documents
            names, documents, tokens = [], [], 0
    if names:
        yield names, documents


def _tokenised(texts: Iterable[Text], tokenizer: Tokenizer) -> Iterator[tuple[str, list[int]]]:
    batch: list[Text] = []
    for text in texts:
        batch.append(text)
        if len(batch) == TOKENIZE_TEXTS:
            yield from _encoded(batch, tokenizer)
            batch = []
    yield from _encoded(batch, tokenizer)


def _encoded(batch: list[Text], tokenizer: Tokenizer) -> Iterator[tuple[str, list[int]]]:
    encodings = tokenizer.encode_batch_fast([text.text for text in batch], add_special_tokens=False)
    for text, encoding in zip(batch, encodings, strict=True):
        yield text.name, encoding.ids


def _field(line: str, json_field: str, where: str) -> str:
    try:
        value = json.loads(line)[json_field]
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(
            "--field", json_field, f"a field of every line, as at {where}"
        ) from error
    if not isinstance(value, str):
        raise InvalidInput("--field", json_field, f"a text, as at {where}")
    return value


def _is_hidden(relative: Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in relative.parts)
