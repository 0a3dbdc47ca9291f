"""One sidecar for all tests of a module, and raw calls to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from retrieval_draft.client import GrpcClient
from retrieval_draft.config import Config
from retrieval_draft.server.lifecycle import Sidecar
from tests.server.sidecars import RawCalls, connected, running_sidecar, short_folder

CONFIG = Config(
    learned_bytes_max=1 << 20,
    vocab_size_max=1 << 12,
    batch_sequences_max=8,
    clients_max=1 << 20,
    namespaces_max=64,
)


@pytest.fixture(scope="module")
def sidecar() -> Iterator[Sidecar]:
    with running_sidecar(CONFIG) as running:
        yield running


@pytest.fixture(scope="module")
def client(sidecar: Sidecar) -> Iterator[GrpcClient]:
    with connected(sidecar.targets[0]) as ready:
        yield ready


@pytest.fixture(scope="module")
def raw(client: GrpcClient) -> Iterator[RawCalls]:
    calls = RawCalls(client.target)
    yield calls
    calls.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path
