"""The way to the drafter that the settings name."""

from collections.abc import Callable

from retrieval_draft.adapters.settings import IN_PROCESS, Settings
from retrieval_draft.client import Client, GrpcClient
from retrieval_draft.engine_client import EngineClient


def connector(settings: Settings) -> Callable[[], Client]:
    """Makes the client when it is called: a sidecar's, or an engine's of this process.

    The call raises DraftError where that cannot be; it may take as long as loading what was learned.
    """
    if settings.transport == IN_PROCESS:
        return lambda: _engine(settings)
    return lambda: GrpcClient(_target(settings))


def _engine(settings: Settings) -> Client:
    if settings.redis == "none":
        return EngineClient.in_memory()
    return EngineClient.on_redis(settings.redis)


def _target(settings: Settings) -> str:
    if settings.sidecar:
        return settings.sidecar
    from retrieval_draft.store.folder import default_path, find_socket

    return f"unix:{find_socket(settings.data or default_path())}"
