"""A Redis of others for all tests of a module."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.redis_servers.deployments import Deployment, single
from tests.redis_servers.processes import available_place


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    with tempfile.TemporaryDirectory(prefix="rd-", dir="/tmp") as folder:
        started = single(Path(folder), available_place())
        yield started
        started.close()
