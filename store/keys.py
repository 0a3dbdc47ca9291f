"""The names under which a namespace's data lie in Redis: one function builds every key.

A tenant is part of the key type, so no code can reach a namespace without saying whose it is.
"""

import re
from dataclasses import dataclass
from typing import Literal, get_args

from retrieval_draft.errors import InvalidInput

PREFIX = "retrieval-draft"
TENANT_CHARACTERS_MAX = 64
NAMESPACE_CHARACTERS_MAX = 128
CORPUS_CHARACTERS_MAX = 128

# `spec`, `journal` and the counts (`counts`, `replicas`) of a namespace, the four of its snapshots, the six
# of its corpora (`corpora` to `claim`), the two of its blocks (`held`, `chunk`), and the two that all share.
Kind = Literal[
    "spec",
    "journal",
    "counts",
    "replicas",
    "snapshots",
    "lock",
    "token",
    "noted",
    "corpora",
    "blocks",
    "pending",
    "documents",
    "segments",
    "claim",
    "held",
    "chunk",
    "namespaces",
    "control",
]
SHARED_KINDS = ("namespaces", "control")

_TENANT = re.compile(rf"[a-z0-9-]{{1,{TENANT_CHARACTERS_MAX}}}")
_NAME = re.compile(rf"[A-Za-z0-9._:/@-]{{1,{NAMESPACE_CHARACTERS_MAX}}}")


@dataclass(frozen=True, order=True, slots=True)
class NamespaceKey:
    """Whose namespace, and which. Raises InvalidInput for a name outside its limits."""

    tenant: str
    namespace: str

    def __post_init__(self) -> None:
        check_tenant(self.tenant)
        _check_name("namespace", self.namespace, NAMESPACE_CHARACTERS_MAX)


@dataclass(frozen=True, slots=True)
class RedisKey:
    """A key taken apart. `namespace` is None for the kinds that all namespaces share."""

    namespace: NamespaceKey | None
    kind: Kind
    name: str = ""


def check_tenant(name: str) -> None:
    """Raises InvalidInput for a name that no tenant can have."""
    if not _TENANT.fullmatch(name):
        limit = f"1 to {TENANT_CHARACTERS_MAX} characters of a-z 0-9 -"
        raise InvalidInput("tenant", name, limit)


def checked_corpus(corpus: str) -> str:
    """The name of a corpus as given, or InvalidInput: the same characters as a namespace's."""
    _check_name("corpus", corpus, CORPUS_CHARACTERS_MAX)
    return corpus


def tag(key: NamespaceKey) -> str:
    """The namespace as one string that no other pair of names gives, e.g. `5:local|4:demo`."""
    return f"{_prefixed(key.tenant)}|{_prefixed(key.namespace)}"


def parse_tag(text: str) -> NamespaceKey:
    """The namespace that `tag` was made from. Raises InvalidInput for anything else."""
    tenant, rest = _take_prefixed(text)
    if not rest.startswith("|"):
        raise InvalidInput("tag", text, "a length-prefixed tenant and namespace")
    namespace, rest = _take_prefixed(rest[1:])
    if rest:
        raise InvalidInput("tag", text, "a length-prefixed tenant and namespace")
    return NamespaceKey(tenant, namespace)


def redis_key(namespace: NamespaceKey | None, kind: Kind, name: str = "") -> str:
    """The one way to name a key.

    All keys of a namespace carry the hash tag `{tenant|namespace}`, so a Cluster keeps them in one
    slot and they can change in one transaction. Distinct arguments give distinct keys.
    """
    if (namespace is None) != (kind in SHARED_KINDS):
        raise ValueError(f"{kind} with namespace {namespace}")
    if namespace is None:
        return f"{PREFIX}:{kind}"
    named = f":{_prefixed(name)}" if name else ""
    return f"{PREFIX}:{{{tag(namespace)}}}:{kind}{named}"


def parse_redis_key(text: str) -> RedisKey:
    """What `redis_key` was given. Raises InvalidInput for a key that it did not make."""
    if not text.startswith(f"{PREFIX}:"):
        raise InvalidInput("key", text, f"a key that starts with {PREFIX}:")
    rest = text[len(PREFIX) + 1 :]
    namespace = None
    if rest.startswith("{"):
        inside, brace, rest = rest[1:].partition("}:")
        if not brace:
            raise InvalidInput("key", text, "a hash tag in braces")
        namespace = parse_tag(inside)
    kind, colon, name = rest.partition(":")
    if colon:
        name, after = _take_prefixed(name)
        if after:
            raise InvalidInput("key", text, "a length-prefixed name at its end")
    for known in get_args(Kind):
        if kind == known and (namespace is None) == (kind in SHARED_KINDS):
            return RedisKey(namespace, known, name)
    raise InvalidInput("key", text, f"one of {', '.join(get_args(Kind))}")


def _check_name(field: str, name: str, characters_max: int) -> None:
    if not _NAME.fullmatch(name):
        limit = f"1 to {characters_max} characters of A-Z a-z 0-9 . _ : / @ -"
        raise InvalidInput(field, name, limit)


def _prefixed(text: str) -> str:
    return f"{len(text)}:{text}"


def _take_prefixed(text: str) -> tuple[str, str]:
    length, colon, rest = text.partition(":")
    if not (colon and length.isascii() and length.isdigit()) or len(rest) < int(length):
        raise InvalidInput("tag", text, "a length before every name")
    return rest[: int(length)], rest[int(length) :]
