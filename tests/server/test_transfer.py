"""Snapshots over the wire; what one namespace has learned as another's prior, and as a file."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from retrieval_draft.call_errors import Refused
from retrieval_draft.cli import cli
from retrieval_draft.client import GrpcClient
from retrieval_draft.errors import (
    AlreadyExists,
    Corrupt,
    DraftError,
    FailedPrecondition,
    NotFound,
)
from retrieval_draft.server.lifecycle import Sidecar
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.learned import LearnedTier
from retrieval_draft.store.learned_decay import decayed
from retrieval_draft.store.learned_image import image_of, restore, slots_of
from retrieval_draft.store.ngrams import slots_in
from retrieval_draft.store.records import Batch, NamespaceSpec
from retrieval_draft.v1 import store_pb2
from tests.server.sidecars import connected, create, running_sidecar
from tests.store.learning import VOCAB, lesson

SPEC = NamespaceSpec("old", VOCAB, model="m", learned_bytes_max=1 << 20)
OLD = NamespaceKey("local", "old")


@pytest.fixture(scope="module")
def taught(sidecar: Sidecar, client: GrpcClient) -> Sidecar:
    """A sidecar whose namespace `old` has learned something."""
    create(client, SPEC)
    backend = sidecar.engine.stores.backend
    for seed in range(6):
        backend.append(OLD, lesson(seed))
    assert backend.flush(20)
    return sidecar


def digest(sidecar: Sidecar, namespace: str) -> str:
    return sidecar.engine.stores.state("local", namespace).learned.digest()


def copied(client: GrpcClient, target: str, decay: float = 0, **said: int) -> None:
    wanted = store_pb2.CreateNamespaceRequest(namespace=target, **said)  # type: ignore[arg-type]
    request = store_pb2.CopyNamespaceRequest(source="old", target=wanted, decay=decay)
    client.copy_namespace(request)


def test_a_snapshot_is_saved_listed_and_verified(taught: Sidecar, client: GrpcClient) -> None:
    assert client.snapshots("old") == []
    saved = client.save_snapshot("old")
    assert client.snapshots("old") == [saved]
    assert (saved.namespace, saved.generation > 0, saved.bytes > 0) == ("old", True, True)
    ((verdict,), backend) = client.verify_snapshots("old"), taught.engine.stores.backend
    assert (verdict.snapshot, verdict.problem) == (saved, "")
    (stats,) = client.stats("old").namespaces
    assert stats.snapshot_generation == saved.generation
    backend.blocks.remove(OLD, backend.snapshots(OLD)[0].digests)
    assert "no block" in client.verify_snapshots("old")[0].problem
    for call in (client.save_snapshot, client.snapshots, client.verify_snapshots):
        with pytest.raises(NotFound):
            call("nothing")


def test_a_copy_without_decay_is_the_same_and_with_it_counts_less(
    taught: Sidecar, client: GrpcClient
) -> None:
    copied(client, "same")
    assert digest(taught, "same") == digest(taught, "old")
    assert client.get_namespace("same").vocab_size == VOCAB
    copied(client, "prior", decay=0.25)
    states = [taught.engine.stores.state("local", name).learned for name in ("old", "prior")]
    old, prior = (slots_in(state.ring.table).astype(np.int64).sum() for state in states)
    assert 0 < prior < old
    assert (states[0].recycling.successors == states[1].recycling.successors).all()
    assert (states[0].stand.grams.shares == states[1].stand.grams.shares).all()
    before, after = (state.stand.grams.visits for state in states)
    assert (after == np.maximum(before // 4, np.minimum(before, 1))).all()


def test_a_copy_that_does_not_fit_is_refused(taught: Sidecar, client: GrpcClient) -> None:
    for field, value in (("vocab_size", VOCAB + 1), ("learned_bytes_max", 1 << 21)):
        with pytest.raises(Refused, match=field):
            copied(client, "other", **{field: value})
    for decay in (-0.1, 1.5, float("nan")):
        with pytest.raises(Refused, match="decay"):
            copied(client, "other", decay)
    with pytest.raises(AlreadyExists):
        copied(client, "old")
    with pytest.raises(NotFound):
        client.copy_namespace(store_pb2.CopyNamespaceRequest(source="nothing"))
    with pytest.raises(NotFound):
        client.get_namespace("other")


def test_counts_that_decay_stay_counts() -> None:
    """Rounded down, contexts of which nothing remains are forgotten, and it is learned on as before."""
    tier = LearnedTier(VOCAB, 1 << 17)
    for number in range(1, 9):
        tier.apply(Batch("a", number, [lesson(number % 3)]))
    image = image_of(tier)
    old, new = (i.arrays["counts"].astype(np.int32) for i in (image, decayed(image, 0.4)))
    for (before, followers), (after, _) in zip(slots_of(old), slots_of(new), strict=True):
        kept = after[:, 0] != 0
        assert kept.any()
        assert (after[kept, 0] == before[kept, 0]).all()
        assert (after[~kept] == 0).all()
        seen, was = after[kept, 2 + followers :], before[kept, 2 + followers :]
        assert (seen == np.floor(was * 0.4)).all()
    for decay in (1e-9, 0.4, 1.0):
        fresh = LearnedTier(VOCAB, 1 << 17)
        restore(fresh, decayed(image, decay))
        assert (fresh.digest() == tier.digest()) == (decay == 1.0)
        fresh.apply(Batch("a", 9, [lesson(1)]))
        restore(LearnedTier(VOCAB, 1 << 17), image_of(fresh))


@pytest.fixture
def other() -> Iterator[GrpcClient]:
    """A sidecar of another cluster."""
    with running_sidecar() as sidecar, connected(sidecar.targets[0], None) as client:
        yield client


def test_a_file_moves_what_was_learned_to_another_cluster(
    taught: Sidecar, client: GrpcClient, other: GrpcClient, tmp_path: Path
) -> None:
    file, target = str(tmp_path / "old.rdn"), other.target
    ran = CliRunner().invoke(
        cli, ["snapshot", "export", file, "--namespace", "old", "--sidecar", client.target]
    )
    assert ran.exit_code == 0, ran.output
    assert [path.name for path in tmp_path.iterdir()] == ["old.rdn"]
    ran = CliRunner().invoke(
        cli, ["snapshot", "import", file, "--namespace", "new", "--sidecar", target]
    )
    assert ran.exit_code == 0, ran.output
    data = Path(file).read_bytes()
    assert b"".join(client.export_namespace("old"))[64:128] != b""
    made = other.import_namespace("", [data[at : at + 1000] for at in range(0, len(data), 1000)])
    assert (made.namespace, made.model, made.vocab_size) == ("old", "m", VOCAB)
    with pytest.raises(AlreadyExists):
        other.import_namespace("", [data])
    back = client.import_namespace("again", [b"".join(other.export_namespace("new"))])
    assert back.namespace == "again"
    assert digest(taught, "again") == digest(taught, "old")


def test_a_damaged_file_stores_nothing(taught: Sidecar, client: GrpcClient) -> None:
    data = b"".join(client.export_namespace("old"))
    dice = np.random.default_rng(2)
    places = np.unique(np.concatenate([np.arange(40), dice.integers(0, len(data), 60)]))
    for at in places.tolist():
        flipped = data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]
        for bad in (data[:at], flipped):
            with pytest.raises((Corrupt, FailedPrecondition)):
                client.import_namespace("bad", [bad])
    for bad in (data + b"x", b"", b"\0" * 200):
        with pytest.raises(DraftError):
            client.import_namespace("bad", [bad])
    with pytest.raises(NotFound):
        client.get_namespace("bad")


def test_the_commands_say_what_they_did(taught: Sidecar, client: GrpcClient) -> None:
    words = ("--namespace", "old", "--sidecar", client.target)
    for verb, said in (("save", "saved generation"), ("list", "generation"), ("verify", "good")):
        ran = CliRunner().invoke(cli, ["snapshot", verb, *words])
        assert (ran.exit_code, said in ran.output) == (0, True), ran.output
        ran = CliRunner().invoke(cli, ["snapshot", verb, *words, "--json"])
        assert '"journal_position"' in ran.output
    ran = CliRunner().invoke(
        cli, ["namespace", "copy", "old", "next", "--decay", "0.25", "--sidecar", client.target]
    )
    assert "next starts with what old has learned, counts times 0.25" in ran.output, ran.output
    backend = taught.engine.stores.backend
    backend.blocks.remove(OLD, backend.snapshots(OLD)[0].digests)
    ran = CliRunner().invoke(cli, ["snapshot", "verify", *words])
    assert (ran.exit_code, "no block" in ran.output) == (5, True)
