"""One engine for each test."""

from collections.abc import Iterator

import pytest

from retrieval_draft.engine import Engine
from tests.engine.driving import Caller, caller, running_engine


@pytest.fixture
def engine() -> Iterator[Engine]:
    with running_engine() as running:
        yield running


@pytest.fixture
def calls(engine: Engine) -> Caller:
    return caller(engine)
