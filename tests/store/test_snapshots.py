"""Snapshots, trimming and gaps: what every backend promises, in process memory and on real Redis servers."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest

from retrieval_draft.errors import AlreadyExists
from retrieval_draft.store import redis_follower
from retrieval_draft.store import snapshots as policy
from retrieval_draft.store.backend import Backend
from retrieval_draft.store.journal_rules import JournalRules
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.learned_image import image_of
from retrieval_draft.store.manifest import Manifest, encode_manifest
from retrieval_draft.store.records import Batch, NamespaceSpec, encode_batch
from tests.store.conftest import WAIT_SECONDS_MAX, Shared
from tests.store.learning import DEMO, SPEC, digest, journal_of, lesson, opened, seeds_of, taught


def whole_replay(store: Shared, monkeypatch: pytest.MonkeyPatch) -> str:
    """The digest of a replica that reads the journal alone."""
    with monkeypatch.context() as patched:
        patched.setattr(policy.Snapshots, "restore", lambda *_, **__: None)
        backend, heard = store.learning("whole")
        backend.stop(0)
    return digest(heard)


def damage(backend: Backend, manifest: Manifest) -> None:
    """Lose a block that only this snapshot has."""
    others = [m.digests for m in backend.snapshots(DEMO) if m != manifest]
    own = manifest.digests.difference(*others)
    backend.blocks.remove(DEMO, sorted(own)[:1])


def test_a_restart_reads_the_snapshot_and_the_tail_alone(
    store: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, heard = opened(store)
    taught(backend, *range(8))
    saved = backend.save_snapshot(DEMO)
    assert [m.generation for m in backend.snapshots(DEMO)] == [saved.generation]
    taught(backend, 8, 9)
    again, after = store.learning("b")
    assert seeds_of(after) == [8, 9]
    assert digest(after) == digest(heard) == whole_replay(store, monkeypatch)
    assert again.figures(DEMO).gaps == 0
    assert again.figures(DEMO).problems == ()
    for replica in (backend, again):
        taught(replica, 10)
    heard.wait_for(lambda: digest(after) == digest(heard) and len(seeds_of(heard)) == 12)


def test_batches_of_before_a_snapshot_change_nothing_after_it(store: Shared) -> None:
    """The numbers of batches are part of it: a writer that was not answered may send again."""
    backend, heard = opened(store)
    first = encode_batch(Batch("other", 1, [lesson(1)]))
    store.add_raw(DEMO, first)
    heard.wait_for(lambda: seeds_of(heard) == [1])
    backend.save_snapshot(DEMO)
    _, after = store.learning("b")
    for payload in (first, encode_batch(Batch("other", 2, [lesson(2)]))):
        store.add_raw(DEMO, payload)
    after.wait_for(lambda: seeds_of(after) == [2])
    heard.wait_for(lambda: seeds_of(heard) == [1, 2])
    assert digest(after) == digest(heard)


def test_two_generations_are_kept_and_the_journal_is_trimmed_behind_the_older(
    store: Shared,
) -> None:
    backend, heard = opened(store)
    generations = []
    for round_ in range(4):
        taught(backend, *range(round_ * 3, round_ * 3 + 3))
        generations.append(backend.save_snapshot(DEMO).generation)
    assert [m.generation for m in backend.snapshots(DEMO)] == generations[:1:-1]
    needed = set[str]().union(*(m.digests for m in backend.snapshots(DEMO)))
    assert backend.blocks.digests(DEMO) == needed, "blocks of older generations are removed"
    assert len(store.raw(DEMO)) == 4, "the older one's last entry, and the three behind it"
    _, after = store.learning("b")
    assert digest(after) == digest(heard)
    assert seeds_of(after) == []


def test_snapshots_are_taken_by_themselves_and_by_one_replica(shared: Shared) -> None:
    shared.rules = JournalRules(snapshot_tokens=400, stop_tokens=0)
    (one, heard), (two, heard_too) = opened(shared, "a"), opened(shared, "b")
    for seed in range(24):
        taught((one, two)[seed % 2], seed)
        if seed % 12 == 11:
            heard.wait_for(lambda: one.figures(DEMO).generation + two.figures(DEMO).generation > 0)
    heard.wait_for(lambda: len(seeds_of(heard)) == len(seeds_of(heard_too)) == 24)
    heard.wait_for(lambda: bool(one.snapshots(DEMO)))
    _, after = shared.learning("c")
    assert len(seeds_of(after)) < 24
    assert digest(after) == digest(heard) == digest(heard_too)


def test_a_replica_that_stops_saves_what_the_next_start_would_replay(shared: Shared) -> None:
    shared.rules = JournalRules(stop_tokens=40)
    backend, heard = opened(shared)
    taught(backend, 1)
    assert backend.stop(WAIT_SECONDS_MAX)
    _, after = shared.learning("b")
    assert (seeds_of(after), digest(after)) == ([], digest(heard))


def test_a_damaged_snapshot_falls_back_to_the_one_before_and_says_so(store: Shared) -> None:
    backend, heard = opened(store)
    for seed in range(3):
        taught(backend, seed)
        backend.save_snapshot(DEMO)
    newest, older = backend.snapshots(DEMO)
    damage(backend, newest)
    assert [bool(problem) for _, problem in backend.verify_snapshots(DEMO)] == [True, False]
    again, after = store.learning("b")
    assert (seeds_of(after), digest(after)) == ([2], digest(heard))
    (problem,) = again.figures(DEMO).problems
    assert f"went on from generation {older.generation}" in problem
    taught(again, 3)
    again.save_snapshot(DEMO)
    kept = [m.generation for m in again.snapshots(DEMO)]
    assert kept[1] == older.generation, "the damaged one gives way"
    assert again.figures(DEMO).problems == ()
    assert all(not problem for _, problem in again.verify_snapshots(DEMO))


def test_all_damaged_the_whole_journal_is_replayed(store: Shared) -> None:
    backend, heard = opened(store)
    taught(backend, 0, 1)
    damage(backend, backend.save_snapshot(DEMO))
    again, after = store.learning("b")
    assert (seeds_of(after), digest(after)) == ([0, 1], digest(heard))
    assert again.figures(DEMO).gaps == 0
    assert "the journal alone" in again.figures(DEMO).problems[0]


def test_all_damaged_and_trimmed_is_a_gap_until_somebody_saves(store: Shared) -> None:
    backend, heard = opened(store)
    for seed in range(3):
        taught(backend, seed)
        backend.save_snapshot(DEMO)
    for manifest in backend.snapshots(DEMO):
        backend.blocks.remove(DEMO, manifest.digests)
    again, after = store.learning("b")
    figures = again.figures(DEMO)
    assert figures.gaps == 1
    assert any("trimmed" in problem for problem in figures.problems)
    assert seeds_of(after)[-1:] == [2], "it goes on with what is left"
    assert digest(after) != digest(heard)
    taught(backend, 3)
    backend.save_snapshot(DEMO)
    taught(backend, 4)  # the one that missed something looks for snapshots while entries come
    after.wait_for(lambda: seeds_of(after)[-1] == 4)
    if digest(after) != digest(heard):
        after.wait_for(lambda: not touched(backend) and digest(after) == digest(heard))
    assert not any("trimmed" in problem for problem in again.figures(DEMO).problems)


@contextmanager
def held(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The backend's follower does nothing within, but for what it is in the middle of."""
    owner: object = getattr(backend, "_follower", backend)
    name = "_tell_entries" if owner is backend else "_read"
    go, real = threading.Event(), getattr(owner, name)

    def wait(*args: object) -> object:
        go.wait()
        return real(*args)

    monkeypatch.setattr(owner, name, wait)
    try:
        yield
    finally:
        go.set()


def touched(backend: Backend) -> bool:
    """Another entry, as a fleet at work would write; always false."""
    backend.append(DEMO, lesson(5))
    return not backend.flush(WAIT_SECONDS_MAX)


def test_a_follower_that_was_overtaken_says_so_and_reloads(
    store: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its next entries are trimmed while it can't read; the snapshot has what they taught.

    However fast that goes: the journal itself says that it was trimmed.
    """
    monkeypatch.setattr(redis_follower, "CHECK_SECONDS", float("inf"))
    (one, heard), (two, heard_too) = opened(store, "a"), opened(store, "b")
    taught(two, 0)
    heard.wait_for(lambda: seeds_of(heard) == [0])
    with held(one, monkeypatch):
        for seed in range(1, 7):
            taught(two, seed)
            if seed % 2:
                two.save_snapshot(DEMO)
    heard.wait_for(lambda: digest(heard) == digest(heard_too))
    assert one.figures(DEMO).gaps == 1
    assert not {2, 3, 4} & set(seeds_of(heard)), "they came with the snapshot"
    assert one.figures(DEMO).problems == ()
    taught(one, 7)
    heard_too.wait_for(lambda: digest(heard) == digest(heard_too))


def test_the_journal_is_bounded_in_bytes_and_a_start_behind_it_is_a_gap(shared: Shared) -> None:
    shared.rules = JournalRules(journal_bytes_max=10_000, snapshot_tokens=0, stop_tokens=0)
    backend, heard = opened(shared)
    for seed in range(120):
        taught(backend, seed)
        assert sum(map(len, shared.raw(DEMO))) <= 10_000 + len(
            encode_batch(Batch("a", 1, [lesson(0)]))
        )
    assert len(shared.raw(DEMO)) > 10, "it is trimmed to the bound, not emptied"
    assert backend.figures(DEMO).gaps == 0, "who had read it has no gap"
    again, after = shared.learning("b")
    assert again.figures(DEMO).gaps == 1
    assert seeds_of(after)[-1] == 119
    assert digest(after) != digest(heard)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"scalars": "vocabulary"}, "vocabulary of 51 tokens, the namespace has 50"),
        ({"incarnation": "x" * 32}, "earlier namespace"),
        ({"schema": "2"}, "schema version 2"),
    ],
)
def test_a_snapshot_of_something_else_is_refused_by_name(
    store: Shared, change: dict[str, str], complaint: str
) -> None:
    backend, heard = opened(store)
    taught(backend, 0)
    saved = backend.save_snapshot(DEMO)
    if "scalars" in change:
        scalars = msgspec.structs.replace(saved.scalars, vocab_size=51)
        data = encode_manifest(msgspec.structs.replace(saved, scalars=scalars))
    elif "schema" in change:
        data = b"\2" + encode_manifest(saved)[1:]
    else:
        data = encode_manifest(msgspec.structs.replace(saved, **change))
    shelf = store.shelf()
    journal = journal_of(backend)
    token = shelf.lock(journal, 9)
    assert token
    shelf.switch(journal, token, [data], "0-0")
    again, after = store.learning("b")
    assert complaint in again.figures(DEMO).problems[0]
    assert (seeds_of(after), digest(after)) == ([0], digest(heard))


def test_another_size_of_the_tier_is_refused_by_name(store: Shared) -> None:
    backend, _ = opened(store)
    taught(backend, 0)
    backend.save_snapshot(DEMO)
    again, after = store.learning("b", bytes_max=1 << 20)
    assert "learned_bytes_max" in again.figures(DEMO).problems[0]
    assert seeds_of(after) == [0]


def test_a_namespace_made_from_a_snapshot_starts_alike_everywhere(store: Shared) -> None:
    (one, heard), (_, heard_too) = opened(store, "a"), opened(store, "b")
    taught(one, 0, 1, 2)
    image = image_of(heard.tiers[DEMO])
    fresh = NamespaceKey("local", "fresh")
    spec = NamespaceSpec("fresh", SPEC.vocab_size)
    assert one.create_from(fresh, spec, image) == spec
    heard_too.wait_for(lambda: fresh in heard_too.tiers)
    heard_too.wait_for(lambda: heard_too.tiers[fresh].tokens_learned > 0)
    _, late = store.learning("c")
    tiers = [h.tiers[fresh].digest() for h in (heard, heard_too, late)]
    assert set(tiers) == {digest(heard)}
    one.append(fresh, lesson(9))
    assert one.flush(WAIT_SECONDS_MAX)
    heard_too.wait_for(lambda: heard_too.tiers[fresh].digest() == heard.tiers[fresh].digest())
    assert one.figures(fresh).gaps == 0
    with pytest.raises(AlreadyExists):
        one.create_from(fresh, spec, image)
