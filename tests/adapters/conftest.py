"""What adapters draft with: an engine in memory, and a client of it that fails on command."""

from collections.abc import Iterator

import pytest

from retrieval_draft.engine_client import EngineClient
from tests.client.conftest import client as client
from tests.engine.conftest import engine as engine


@pytest.fixture
def in_memory() -> Iterator[EngineClient]:
    """A client with an engine of its own, for adapters that create their namespace themselves."""
    made = EngineClient.in_memory()
    yield made
    made.close()
