"""An engine in memory for each test, and a client of it that fails on command."""

import pytest

from retrieval_draft.engine import Engine
from retrieval_draft.engine_client import EngineClient
from tests.client.scripted import Faulty
from tests.engine.conftest import engine as engine


@pytest.fixture
def client(engine: Engine) -> Faulty:
    return Faulty(EngineClient(engine))
