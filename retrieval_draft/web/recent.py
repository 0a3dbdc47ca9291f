"""What was written lately, and which source drafted every token: kept only where the operator asks for it."""

import threading
from collections import OrderedDict, deque
from collections.abc import Collection, Sequence

import msgspec
from tokenizers import Tokenizer

from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.tokenizer import fingerprint
from retrieval_draft.tree import SOURCES, DraftTree, Int32Array

SEQUENCES_MAX = 8
"""Of a namespace, the newest."""
NAMESPACES_MAX = 64
TOKENS_MAX = 400
"""Of a sequence, the last."""


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """A token's text, and the source that drafted it: "" for what the model added itself."""

    text: str
    source: str


class Text(msgspec.Struct, frozen=True):
    """One sequence's end. `name` tells it from the others, and says nothing else."""

    name: int
    steps: int
    pieces: list[Piece]


class _Output:
    def __init__(self) -> None:
        self.tokens: deque[tuple[int, int]] = deque(maxlen=TOKENS_MAX)
        self.steps = 0
        self.changed = 0


class Recent:
    """Fits Engine.on_committed. Thread-safe; costs some microseconds a step and sequence."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.fingerprint = fingerprint(tokenizer)
        self._outputs: OrderedDict[NamespaceKey, OrderedDict[int, _Output]] = OrderedDict()
        self._changes = 0
        self._lock = threading.Lock()

    def committed(
        self,
        key: NamespaceKey,
        number: int,
        tokens: Int32Array,
        tree: DraftTree | None,
        path: Sequence[int],
    ) -> None:
        """A step gave sequence `number` these output tokens, the first of them by `path` of `tree`."""
        masks = [] if tree is None else [int(tree.source[node]) for node in path]
        with self._lock:
            outputs = self._outputs.setdefault(key, OrderedDict())
            self._outputs.move_to_end(key)
            while len(self._outputs) > NAMESPACES_MAX:
                self._outputs.popitem(last=False)
            output = outputs.setdefault(number, _Output())
            outputs.move_to_end(number)
            while len(outputs) > SEQUENCES_MAX:
                outputs.popitem(last=False)
            for i, token in enumerate(tokens.tolist()):
                output.tokens.append((token, masks[i] if i < len(masks) else 0))
            output.steps += 1
            self._changes += 1
            output.changed = self._changes

    def forget(self, key: NamespaceKey) -> None:
        """The namespace is gone, and nothing of it is shown any more. Fits Stores.on_gone."""
        with self._lock:
            self._outputs.pop(key, None)

    def texts(self, keys: Collection[NamespaceKey], after: int) -> tuple[list[Text], int]:
        """The sequences of these namespaces that changed behind `after`; and the newest change."""
        found: list[tuple[int, _Output]] = []
        with self._lock:
            for key, outputs in self._outputs.items():
                if key in keys:
                    found += ((n, o) for n, o in outputs.items() if o.changed > after)
            newest = max((o.changed for _, o in found), default=after)
            copied = [(n, o.steps, list(o.tokens)) for n, o in found]
        return [Text(n, steps, self._pieces(tokens)) for n, steps, tokens in copied], newest

    def _pieces(self, tokens: list[tuple[int, int]]) -> list[Piece]:
        """Neighbours of one source together: a character may need several tokens."""
        pieces: list[Piece] = []
        ids: list[int] = []
        source = ""
        for token, mask in tokens:
            name = source_of(mask)
            if ids and name != source:
                pieces.append(Piece(self._tokenizer.decode(ids), source))
                ids = []
            source = name
            ids.append(token)
        if ids:
            pieces.append(Piece(self._tokenizer.decode(ids), source))
        return pieces


def source_of(mask: int) -> str:
    """The first of the sources that proposed a token, in the order in which they are listed everywhere."""
    return next((name for name, bit in SOURCES.items() if mask >> bit & 1), "")
