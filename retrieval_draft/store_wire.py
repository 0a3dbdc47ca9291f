"""Between the wire's namespaces and documents and the stores' own."""

import numpy as np

from retrieval_draft.columns import column, offsets
from retrieval_draft.errors import InvalidInput
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.manifest import Manifest
from retrieval_draft.store.records import NamespaceSpec
from retrieval_draft.stores import Document
from retrieval_draft.tree import int32s
from retrieval_draft.v1 import store_pb2 as pb


def spec_of(message: pb.CreateNamespaceRequest) -> NamespaceSpec:
    return NamespaceSpec(
        namespace=message.namespace,
        vocab_size=message.vocab_size,
        model=message.model,
        tokenizer_fingerprint=message.tokenizer_fingerprint,
        adapter=message.adapter,
        revision=message.revision,
        learn_prompts=message.learn_prompts,
        end_tokens=tuple(column(message.end_tokens, np.int32, "end_tokens").tolist()),
        learned_bytes_max=message.learned_bytes_max,
    )


def namespace_of(spec: NamespaceSpec) -> pb.Namespace:
    return pb.Namespace(
        namespace=spec.namespace,
        vocab_size=spec.vocab_size,
        model=spec.model,
        tokenizer_fingerprint=spec.tokenizer_fingerprint,
        adapter=spec.adapter,
        revision=spec.revision,
        learn_prompts=spec.learn_prompts,
        end_tokens=int32s(spec.end_tokens).tobytes(),
        learned_bytes_max=spec.learned_bytes_max,
    )


def snapshot_of(key: NamespaceKey, manifest: Manifest) -> pb.Snapshot:
    return pb.Snapshot(
        namespace=key.namespace,
        generation=manifest.generation,
        journal_position=manifest.position.entry_id,
        bytes=manifest.stored_bytes,
        unix_seconds=manifest.unix_seconds,
    )


def documents_of(message: pb.WarmRequest) -> list[Document]:
    """InvalidInput where offsets, tokens and names disagree."""
    tokens = column(message.tokens, np.int32, "tokens")
    entries = column(message.document_offsets, np.int32, "document_offsets")
    if not len(entries):
        raise InvalidInput("document_offsets", "0 entries", "documents + 1 entries")
    count = len(entries) - 1
    cuts = offsets(message.document_offsets, "document_offsets", count, len(tokens))
    names = list(message.document_names) or [""] * count
    if len(names) != count:
        raise InvalidInput("document_names", f"{len(names)} names", f"{count} names, or none")
    return [Document(name, tokens[cuts[i] : cuts[i + 1]]) for i, name in enumerate(names)]
