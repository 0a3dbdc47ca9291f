"""The tenants file: which bearer token and which client certificate belong to which tenant.

    unix_sockets = "local"

    [tenants.acme]
    tokens = ["sha256:9f86d0..."]
    certificates = ["spiffe://prod.example/acme", "acme-engine"]

`unix_sockets` says whose callers without a token on Unix sockets are; "" means that they need one too.
A certificate is named by its SPIFFE id or, if it has none, by its common name. Tokens carry 256 random
bits and are stored as SHA-256: no slow hash is needed, and whoever reads the file can use none of them.
"""

import hashlib
import hmac
import json
import os
import secrets
import stat
import tempfile
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import msgspec

from retrieval_draft.errors import InvalidInput, NotFound, PermissionDenied
from retrieval_draft.store.keys import check_tenant

LOCAL_TENANT = "local"
TENANTS_MAX = 1024
TOKENS_MAX = 16
"""Of one tenant, and as many certificates: a few for rotation."""
CERTIFICATE_CHARACTERS_MAX = 512
TOKEN_PREFIX = "rdt_"  # noqa: S105 - what makes a leaked token findable
TOKEN_BYTES = 32
TOKEN_CHARACTERS_MIN, TOKEN_CHARACTERS_MAX = 32, 256
"""Shorter ones cannot hold 128 bits, whoever made them: they match nothing."""
_HASH = "sha256:"
_HASH_CHARACTERS = 64
_INDEX_CHARACTERS = 8


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tokens: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    unix_sockets: str = LOCAL_TENANT
    tenants: dict[str, _Entry] = msgspec.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tenant:
    """One tenant's credentials: hashes of tokens, and names of certificates."""

    name: str
    tokens: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()

    @property
    def token_ids(self) -> tuple[str, ...]:
        """What tells tokens apart in lists: the start of their hashes."""
        return tuple(token_id(token) for token in self.tokens)


@dataclass(frozen=True)
class Tenants:
    """Immutable: a file that changed is another Tenants. Look-ups are O(1)."""

    by_name: dict[str, Tenant] = field(default_factory=dict)
    unix_sockets: str = LOCAL_TENANT

    def of_token(self, token: str) -> str | None:
        """The tenant of this token. What the comparison costs says nothing about any stored hash."""
        if not TOKEN_CHARACTERS_MIN <= len(token) <= TOKEN_CHARACTERS_MAX:
            return None
        hashed = hashed_token(token)
        found = None
        # The first digits only choose whom to compare with: they are of a hash that nobody can steer.
        for stored, tenant in self._by_hash.get(hashed[: len(_HASH) + _INDEX_CHARACTERS], ()):
            if hmac.compare_digest(stored, hashed):
                found = tenant
        return found

    def of_certificate(self, name: str) -> str | None:
        """The tenant of a verified client certificate of this SPIFFE id or common name."""
        return self._by_certificate.get(name)

    @cached_property
    def _by_hash(self) -> dict[str, list[tuple[str, str]]]:
        index: dict[str, list[tuple[str, str]]] = {}
        for tenant in self.by_name.values():
            for token in tenant.tokens:
                start = token[: len(_HASH) + _INDEX_CHARACTERS]
                index.setdefault(start, []).append((token, tenant.name))
        return index

    @cached_property
    def _by_certificate(self) -> dict[str, str]:
        return {name: one.name for one in self.by_name.values() for name in one.certificates}


def hashed_token(token: str) -> str:
    """The token as the file holds it."""
    return _HASH + hashlib.sha256(token.encode()).hexdigest()


def token_id(hashed: str) -> str:
    """A stored token's short name."""
    return hashed[len(_HASH) : len(_HASH) + _INDEX_CHARACTERS]


def read_tenants(path: Path) -> Tenants:
    """The file's tenants.

    Raises InvalidInput if it cannot be read or says what it must not, PermissionDenied if others may
    write it: whoever can do that can be any tenant.
    """
    try:
        data, mode = path.read_bytes(), path.stat().st_mode
    except OSError as error:
        raise InvalidInput("tenants", str(path), "a file", error.strerror or "") from error
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionDenied(
            f"{path} may be written by others (mode {mode & 0o777:o}): chmod 600"
        )
    try:
        found = msgspec.toml.decode(data, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput("tenants", str(path), "a tenants file", str(error)) from error
    tenants = Tenants(
        {
            name: Tenant(name, entry.tokens, entry.certificates)
            for name, entry in found.tenants.items()
        },
        found.unix_sockets,
    )
    _check(tenants)
    return tenants


def write_tenants(path: Path, tenants: Tenants) -> None:
    """Replace the file in one step, readable by this user alone. Comments in it are not kept."""
    _check(tenants)
    lines = [f"unix_sockets = {json.dumps(tenants.unix_sockets)}"]
    for name, tenant in sorted(tenants.by_name.items()):
        lines += ["", f"[tenants.{name}]"]
        lines.append(f"tokens = {json.dumps(tenant.tokens)}")
        lines.append(f"certificates = {json.dumps(tenant.certificates)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Made with mode 0600.
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except OSError as error:
        raise PermissionDenied(f"{path} cannot be written: {error.strerror}") from error


def with_token(tenants: Tenants, name: str) -> tuple[Tenants, str]:
    """The tenants with a new token of this tenant, who is made if missing; and the token itself."""
    token = TOKEN_PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
    before = tenants.by_name.get(name, Tenant(name))
    after = replace(before, tokens=(*before.tokens, hashed_token(token)))
    return _with(tenants, after), token


def with_certificates(tenants: Tenants, name: str, certificates: tuple[str, ...]) -> Tenants:
    """The tenants with these certificates of this tenant, who is made if missing."""
    before = tenants.by_name.get(name, Tenant(name))
    names = tuple(dict.fromkeys((*before.certificates, *certificates)))
    return _with(tenants, replace(before, certificates=names))


def without_tenant(tenants: Tenants, name: str) -> Tenants:
    """The tenants without this one. Raises NotFound."""
    _named(tenants, name)
    return replace(tenants, by_name={n: t for n, t in tenants.by_name.items() if n != name})


def without_token(tenants: Tenants, name: str, token: str) -> Tenants:
    """The tenants without one token of this one, named by its id. Raises NotFound."""
    before = _named(tenants, name)
    kept = tuple(one for one in before.tokens if token_id(one) != token)
    if len(kept) == len(before.tokens):
        raise NotFound(
            f"tenant {name} has no token {token}: {', '.join(before.token_ids) or 'none'}"
        )
    return _with(tenants, replace(before, tokens=kept))


def _named(tenants: Tenants, name: str) -> Tenant:
    if (tenant := tenants.by_name.get(name)) is None:
        raise NotFound(f"there is no tenant {name}")
    return tenant


def _with(tenants: Tenants, tenant: Tenant) -> Tenants:
    changed = replace(tenants, by_name={**tenants.by_name, tenant.name: tenant})
    _check(changed)
    return changed


def _check(tenants: Tenants) -> None:
    """Raises InvalidInput for names, hashes and numbers outside their limits, and for shared credentials."""
    if len(tenants.by_name) > TENANTS_MAX:
        raise InvalidInput("tenants", len(tenants.by_name), f"{TENANTS_MAX}")
    if tenants.unix_sockets:
        check_tenant(tenants.unix_sockets)
    owners: dict[str, str] = {}
    for name, tenant in tenants.by_name.items():
        check_tenant(name)
        for kind, of_kind in (("tokens", tenant.tokens), ("certificates", tenant.certificates)):
            if len(of_kind) > TOKENS_MAX:
                raise InvalidInput(f"tenants.{name}.{kind}", len(of_kind), f"{TOKENS_MAX}")
        for token in tenant.tokens:
            if not _is_hash(token):
                # Never the value: it may be a token that somebody pasted.
                limit = f"{_HASH} and {_HASH_CHARACTERS} hexadecimal digits, as `tenant add` writes"
                raise InvalidInput(f"tenants.{name}.tokens", "something else", limit)
        for certificate in tenant.certificates:
            if not certificate.isprintable() or not (
                1 <= len(certificate) <= CERTIFICATE_CHARACTERS_MAX
            ):
                limit = f"1 to {CERTIFICATE_CHARACTERS_MAX} printable characters"
                raise InvalidInput(f"tenants.{name}.certificates", certificate, limit)
        for credential in (*tenant.tokens, *tenant.certificates):
            if (owner := owners.setdefault(credential, name)) != name:
                what = "a token" if credential.startswith(_HASH) else f"certificate {credential}"
                raise InvalidInput("tenants", what, "one tenant", f"given to {owner} and {name}")


def _is_hash(text: str) -> bool:
    digits = text.removeprefix(_HASH)
    return (
        text.startswith(_HASH)
        and len(digits) == _HASH_CHARACTERS
        and all(c in "0123456789abcdef" for c in digits)
    )
