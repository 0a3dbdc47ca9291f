"""Datasets of the Hugging Face hub, streamed through the `datasets` library where it is installed."""

import re
from collections.abc import Iterable, Iterator

from retrieval_draft.errors import FailedPrecondition, InvalidInput, Unreachable
from retrieval_draft.warming.documents import Found, Skipped, Unreadable, parts
from retrieval_draft.warming.fields import Fields

_NAMED = re.compile(r"^hf://(?P<path>[^:@]+)(:(?P<config>[^:@]+))?(@(?P<split>[^:@]+))?$")
LIMIT = "hf://OWNER/NAME, with :CONFIG and @SPLIT where they are wanted"


def dataset(source: str, fields: Fields) -> Iterator[Found]:
    """One document a row of `hf://OWNER/NAME[:CONFIG][@SPLIT]`; the split is `train` where none is named.

    Raises InvalidInput for a source of another form or that is not there, Unreachable without the hub,
    FailedPrecondition without the library.
    """
    if (named := _NAMED.match(source)) is None:
        raise InvalidInput("source", source, LIMIT)
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise FailedPrecondition(
            f"{source} needs the datasets library: pip install 'retrieval-draft[warm]'"
        ) from error
    split = named["split"] or "train"
    try:
        rows = load_dataset(named["path"], named["config"], split=split, streaming=True)
    except ConnectionError as error:
        raise Unreachable(f"{source} cannot be read: {error}") from error
    except Exception as error:  # the library raises what its loaders raise
        raise InvalidInput("source", source, LIMIT, str(error)) from error
    return _documents(source, rows, fields)


def _documents(source: str, rows: Iterable[object], fields: Fields) -> Iterator[Found]:
    for number, record in enumerate(rows, start=1):
        where = f"{source}:{number}"
        try:
            yield from parts(fields.document(where, record))
        except Unreadable as error:
            yield Skipped(where, str(error))
