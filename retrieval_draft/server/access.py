"""Whose call it is: from the credential that came with it, never from the message."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import cast

import grpc

from retrieval_draft.errors import Unauthenticated
from retrieval_draft.tenants import LOCAL_TENANT, Tenants

log = logging.getLogger(__name__)

HEADER = "authorization"
SCHEME = "bearer "
SPIFFE = "spiffe:"
LOG_SECONDS = 10.0
"""At most one line about refused callers in so long: they must not fill the log."""


class Access:
    """`tenants` may be replaced while calls run; None: every caller is tenant `local`."""

    def __init__(self, tenants: Tenants | None = None) -> None:
        self.tenants = tenants
        self.refused = 0
        self._lock = threading.Lock()
        self._logged_at = -LOG_SECONDS
        self._logged = 0

    def caller(self, context: grpc.ServicerContext) -> "Caller":
        """Who is at the other end of this call; costs some microseconds."""
        return Caller(self, context)

    def of_header(self, headers: Sequence[str], peer: str) -> str:
        """The tenant of an HTTP request with these `authorization` headers. Raises Unauthenticated.

        Here only a token counts, whatever certificate or socket the caller may have.
        """
        if (tenants := self.tenants) is None:
            return LOCAL_TENANT
        if not headers:
            raise self.refuse(peer, "a token is needed")
        value = headers[0] if len(headers) == 1 else ""
        if value[: len(SCHEME)].lower() != SCHEME:
            raise self.refuse(peer, "the authorization header must be one `Bearer TOKEN`")
        if (tenant := tenants.of_token(value[len(SCHEME) :].strip())) is None:
            raise self.refuse(peer, "this token is not valid")
        return tenant

    def refuse(self, peer: str, reason: str) -> Unauthenticated:
        """The error to raise; counted, and logged with the peer's address, never with its token."""
        now = time.monotonic()
        unsaid = 0
        with self._lock:
            self.refused += 1
            if now - self._logged_at >= LOG_SECONDS:
                unsaid = self.refused - self._logged
                self._logged_at, self._logged = now, self.refused
        if unsaid:
            log.warning("refused %d calls, the last from %s: %s", unsaid, peer, reason)
        return Unauthenticated(reason)


class Caller:
    """One call's credential. `tenant` is asked again with every message, so that revoking works."""

    def __init__(self, access: Access, context: grpc.ServicerContext) -> None:
        self._access = access
        self._context = context
        self._judged_by: Tenants | None = None
        self._tenant = LOCAL_TENANT if access.tenants is None else ""

    def tenant(self) -> str:
        """Whose call it is. Raises Unauthenticated, also once the credential is another's or nobody's."""
        tenants = self._access.tenants
        if tenants is not self._judged_by:
            found = LOCAL_TENANT if tenants is None else self._found(tenants)
            if self._tenant and found != self._tenant:
                raise self._refused("the credential was revoked")
            self._judged_by, self._tenant = tenants, found
        return self._tenant

    def _found(self, tenants: Tenants) -> str:
        headers = [value for key, value in self._context.invocation_metadata() if key == HEADER]
        if headers:
            return self._of_token(tenants, headers)
        if self._context.peer().startswith("unix:") and tenants.unix_sockets:
            return tenants.unix_sockets
        if self._context.peer_identities() is None:
            raise self._refused("a token is needed: --token-file or RETRIEVAL_DRAFT_TOKEN")
        name = self._certificate()
        tenant = None if name is None else tenants.of_certificate(name)
        if tenant is None:
            raise self._refused("no tenant has this client certificate")
        return tenant

    def _of_token(self, tenants: Tenants, headers: list[str | bytes]) -> str:
        """A token decides alone: a wrong one is refused whatever else would do."""
        value = headers[0] if len(headers) == 1 and isinstance(headers[0], str) else ""
        if value[: len(SCHEME)].lower() != SCHEME:
            raise self._refused("the authorization header must be one `Bearer TOKEN`")
        if (tenant := tenants.of_token(value[len(SCHEME) :].strip())) is None:
            raise self._refused("this token is not valid")
        return tenant

    def _certificate(self) -> str | None:
        """What the verified client certificate is named by; one with a SPIFFE id by nothing else."""
        # A list for every name, whatever the stubs say.
        properties = cast("Mapping[str, Sequence[bytes]]", self._context.auth_context())
        if ids := properties.get("peer_spiffe_id", ()):
            return ids[0].decode(errors="replace")
        names = [name.decode(errors="replace") for name in properties.get("x509_common_name", ())]
        # Whoever may choose a common name must not choose a SPIFFE id with it.
        return names[0] if names and not names[0].startswith(SPIFFE) else None

    def _refused(self, reason: str) -> Unauthenticated:
        return self._access.refuse(self._context.peer(), reason)
