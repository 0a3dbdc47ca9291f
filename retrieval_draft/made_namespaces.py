"""The namespaces that a conversation's sequences open in beside its own, made where they are missing."""

import logging
from collections.abc import Callable

from retrieval_draft.client import Client, ensure_namespace
from retrieval_draft.errors import DraftError
from retrieval_draft.v1.store_pb2 import CreateNamespaceRequest

_OWN = {""}

log = logging.getLogger(__name__)


class MadeNamespaces:
    """All of them like `own`, but for the name; without `own` they are others' to make."""

    def __init__(
        self,
        client: Client,
        namespace: str,
        own: CreateNamespaceRequest | None,
        namespace_of: Callable[[str], str] | None,
    ) -> None:
        """`namespace_of` gives the namespace that a sequence id opens in; None: all in `namespace`."""
        self._client = client
        self._namespace = namespace
        self._own = own
        self._namespace_of = namespace_of
        self._made: set[str] = set()
        self._refused: set[str] = set()

    def other(self, sequence_id: str) -> str:
        """Where the sequence opens, or "" for the conversation's own namespace."""
        found = "" if self._namespace_of is None else self._namespace_of(sequence_id)
        return "" if found == self._namespace else found

    def ready(self, namespaces: set[str], seconds_max: float) -> set[str]:
        """Those of these that sequences can be opened in; the others are tried anew with the next step.

        Asks the drafter for what is not made yet, up to `seconds_max` each.
        """
        if namespaces == _OWN:
            return namespaces
        return {name for name in namespaces if self._is_ready(name, seconds_max)}

    def forget(self) -> None:
        """They may be gone, perhaps with the whole store."""
        self._made.clear()

    def _is_ready(self, namespace: str, seconds_max: float) -> bool:
        if not namespace or namespace in self._made or self._own is None:
            return True
        wanted = CreateNamespaceRequest()
        wanted.CopyFrom(self._own)
        wanted.namespace = namespace
        try:
            ensure_namespace(self._client, wanted, seconds_max)
        except DraftError as error:
            if namespace not in self._refused:
                log.info("no drafts from namespace %s for now: %s", namespace, error)
                self._refused.add(namespace)
            return False
        self._made.add(namespace)
        return True
