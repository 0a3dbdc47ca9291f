"""What one namespace has learned given to another: as a weak prior here, or as a file elsewhere."""

import time
from collections.abc import Iterable, Iterator

import msgspec

from retrieval_draft.errors import InvalidInput
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.learned import LearnedTier
from retrieval_draft.store.learned_decay import checked_decay, decayed
from retrieval_draft.store.learned_image import LearnedImage, check_fits, restore
from retrieval_draft.store.records import NamespaceSpec
from retrieval_draft.store.snapshot_file import Description, read, written
from retrieval_draft.stores import Stores

PIECE_BYTES = 1 << 20


def copy(
    stores: Stores, tenant: str, source: str, target: NamespaceSpec, decay: float
) -> NamespaceSpec:
    """Create `target` with what `source` has learned, its counts times `decay` (0 = 1).

    Where the target says neither vocabulary nor size it has the source's. Raises NotFound, AlreadyExists,
    and InvalidInput for another vocabulary, size or decay.
    """
    factor = checked_decay(decay)
    spec = with_size(stores, tenant, source)
    size, most = target.vocab_size or spec.vocab_size, target.learned_bytes_max
    if size != spec.vocab_size:
        raise InvalidInput("vocab_size", size, f"{spec.vocab_size}, as {source} has")
    if most not in (0, spec.learned_bytes_max):
        raise InvalidInput("learned_bytes_max", most, f"{spec.learned_bytes_max}, as {source} has")
    made = msgspec.structs.replace(
        target, vocab_size=size, learned_bytes_max=spec.learned_bytes_max
    )
    image = stores.backend.learned_image(NamespaceKey(tenant, source))
    return create_from(stores, tenant, made, decayed(image, factor))


def exported(stores: Stores, tenant: str, namespace: str) -> Iterator[bytes]:
    """The namespace's learned tier as a file. NotFound."""
    spec = with_size(stores, tenant, namespace)
    image = stores.backend.learned_image(NamespaceKey(tenant, namespace))
    for part in written(spec, image, time.time()):
        for at in range(0, len(part), PIECE_BYTES):
            yield part[at : at + PIECE_BYTES]


def imported(stores: Stores, tenant: str, namespace: str, pieces: Iterable[bytes]) -> NamespaceSpec:
    """Create the namespace of this file, under another name if one is given.

    Nothing is stored before all of it is verified. Raises Corrupt and FailedPrecondition for a file that
    is damaged or made for something else, and what `Stores.create` raises.
    """
    made: list[NamespaceSpec] = []

    def accept(described: Description) -> None:
        name = namespace or described.spec.namespace
        spec = msgspec.structs.replace(described.spec, namespace=name)
        stores.checked_key(tenant, spec)
        shapes = {name: array.shape for name, array in described.arrays.items()}
        check_fits(_empty_tier(stores, spec), described.scalars, shapes)
        made.append(spec)

    image = read(pieces, accept)
    return create_from(stores, tenant, made[0], image)


def create_from(
    stores: Stores, tenant: str, spec: NamespaceSpec, image: LearnedImage
) -> NamespaceSpec:
    """Create a namespace that starts with this, after the checks of `Stores.create` and of the image."""
    stores.checked_key(tenant, spec)
    restore(_empty_tier(stores, spec), image)
    return stores.create_by(tenant, spec, lambda key: stores.backend.create_from(key, spec, image))


def _empty_tier(stores: Stores, spec: NamespaceSpec) -> LearnedTier:
    return LearnedTier(spec.vocab_size, stores.learned_bytes_max(spec))


def with_size(stores: Stores, tenant: str, namespace: str) -> NamespaceSpec:
    """The namespace with its size said, which may be this server's default."""
    spec = stores.state(tenant, namespace).spec
    return msgspec.structs.replace(spec, learned_bytes_max=stores.learned_bytes_max(spec))
