"""A snapshot is there whole or not at all, whoever dies, loses the lock or deletes meanwhile."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from retrieval_draft.errors import FailedPrecondition, NotFound
from retrieval_draft.store import snapshots as policy
from retrieval_draft.store.folder_blocks import FolderBlocks
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.manifest import encode_manifest
from retrieval_draft.store.snapshot_store import Fenced, SnapshotStore
from tests.store.conftest import Shared, SharedMemory
from tests.store.learning import DEMO, SPEC, digest, journal_of, opened, taught


def test_who_lost_the_lock_cannot_switch(store: Shared) -> None:
    backend, _ = opened(store)
    taught(backend, 0)
    saved = backend.save_snapshot(DEMO)
    shelf, journal = store.shelf(), journal_of(backend)
    stale = shelf.lock(journal, 60)
    assert stale
    assert stale > saved.generation
    assert shelf.lock(journal, 9) is None
    shelf.note(journal, stale, [], 0.05)
    fresh = None
    while fresh is None:  # it expires
        fresh = shelf.lock(journal, 9)
    assert fresh > stale
    other = encode_manifest(msgspec.structs.replace(saved, generation=stale))
    with pytest.raises(Fenced, match="demo"):
        shelf.switch(journal, stale, [other], "0-0")
    with pytest.raises(Fenced, match="demo"):
        shelf.note(journal, stale, ["0" * 32], 9)
    shelf.unlock(journal, stale)
    with pytest.raises(FailedPrecondition, match="another replica"):
        backend.save_snapshot(DEMO)
    assert backend.snapshots(DEMO) == [saved]
    shelf.unlock(journal, fresh)
    assert backend.save_snapshot(DEMO).generation > fresh


class Dying:
    """Calls of a shelf or of blocks until one is the last: nothing comes after a death, no unlock either."""

    def __init__(self, inner: object, left: list[int], after: bool) -> None:
        self._inner, self._left, self._after = inner, left, after

    def __getattr__(self, name: str) -> Callable[..., object]:
        call: Callable[..., object] = getattr(self._inner, name)

        def dying(*args: object, **kwargs: object) -> object:
            self._left[0] -= 1
            if self._left[0] < 0 or (self._left[0] == 0 and not self._after):
                raise KeyboardInterrupt
            answer = call(*args, **kwargs)
            if self._left[0] == 0:
                raise KeyboardInterrupt
            return answer

        return dying


@pytest.mark.parametrize("after", [False, True])
def test_killed_in_any_step_it_leaves_the_old_snapshots_or_the_new(
    store: Shared, after: bool
) -> None:
    """Each call of the shelf and of the blocks in turn is the last: lost, or made and not answered."""
    backend, heard = opened(store)
    taught(backend, 0)
    backend.save_snapshot(DEMO)
    shelf, calls, outcomes = store.shelf(), 0, set[bool]()
    snapshots: policy.Snapshots = backend._snapshots  # type: ignore[attr-defined]
    good = snapshots._store
    while True:
        calls += 1 if isinstance(store, SharedMemory) else 4
        taught(backend, calls)
        before = backend.snapshots(DEMO)
        left = [calls]
        dying = SnapshotStore(
            Dying(good.shelf, left, after),  # type: ignore[arg-type]
            Dying(backend.blocks, left, after),  # type: ignore[arg-type]
        )
        snapshots._store = dying
        with suppress(KeyboardInterrupt):
            snapshots.take(DEMO)
        snapshots._store = good
        found = backend.snapshots(DEMO)
        outcomes.add(found == before)
        assert found == before or found[1:] == before[:1]
        assert all(not problem for _, problem in backend.verify_snapshots(DEMO))
        journal = journal_of(backend)
        for token in range(1, 100):  # the lock of the dead, as if it had expired
            shelf.unlock(journal, token)
        if left[0] > 0:
            break
    assert outcomes == {True, False}
    assert calls > 12
    again, after_it = store.learning("b")
    assert digest(after_it) == digest(heard)
    again.save_snapshot(DEMO)
    needed = set[str]().union(*(m.digests for m in again.snapshots(DEMO)))
    assert again.blocks.digests(DEMO) == needed, "what the dead have left is swept"


def test_delete_removes_snapshots_and_blocks(store: Shared) -> None:
    backend, _ = opened(store)
    taught(backend, 0)
    backend.save_snapshot(DEMO)
    backend.delete_namespace(DEMO)
    assert store.keys(DEMO) == []
    assert backend.blocks.digests(DEMO) == set()
    for call in (backend.snapshots, backend.save_snapshot, backend.verify_snapshots):
        with pytest.raises(NotFound, match="demo"):
            call(DEMO)
    backend.create_namespace(DEMO, SPEC)
    assert backend.snapshots(DEMO) == []
    _, after = store.learning("b")
    assert after.tiers[DEMO].tokens_learned == 0


def test_deleted_while_it_is_saved_it_leaves_no_blocks(
    store: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind the first block, on a folder that knows nothing of namespaces."""
    backend, _ = opened(store)
    taught(backend, 0)
    snapshots: policy.Snapshots = backend._snapshots  # type: ignore[attr-defined]
    blocks = FolderBlocks(tmp_path)
    put = blocks.put

    def last(key: NamespaceKey, data: bytes) -> str:
        if backend.list_namespaces("local"):
            backend.delete_namespace(key)
        return put(key, data)

    monkeypatch.setattr(blocks, "put", last)
    snapshots._store = SnapshotStore(store.shelf(), blocks)
    with pytest.raises(NotFound, match="demo"):
        snapshots.take(DEMO)
    assert list(tmp_path.iterdir()) == []
    assert store.keys(DEMO) == []
