"""Between the wire's columns and the engine's steps, in both directions.

Decoding checks that lengths agree and raises InvalidInput naming the field; what values mean is the
engine's to check.
"""

from collections.abc import Iterable, Sequence
from enum import IntEnum
from itertools import pairwise
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from retrieval_draft.columns import (
    column,
    encode_offsets,
    joined,
    numbers,
    offsets,
    optional,
    packed,
)
from retrieval_draft.errors import InvalidInput
from retrieval_draft.step import (
    DraftOptions,
    Learning,
    Problem,
    Rows,
    SequenceStart,
    SequenceStep,
    Status,
    StepRequest,
    StepResponse,
    TreeShape,
    VerifyCost,
)
from retrieval_draft.tree import DraftTree, Proposals, int32s
from retrieval_draft.v1 import draft_pb2

_Enum = TypeVar("_Enum", bound=IntEnum)

_INT32, _UINT32, _FLOAT32 = np.dtype("<i4"), np.dtype("<u4"), np.dtype("<f4")


def decode_request(message: draft_pb2.DraftRequest) -> StepRequest:
    """The step of this message. O(bytes)."""
    count = len(message.sequence_ids)
    tokens = column(message.tokens, np.int32, "tokens")
    token_offsets = offsets(message.token_offsets, "token_offsets", count, len(tokens))
    bases = numbers(message.base_positions, np.int32, "base_positions", count)
    nodes = optional(message.nodes_max, np.int32, "nodes_max", count)
    finished = optional(message.finished, np.uint8, "finished", count)
    verified = optional(message.verified_steps, np.uint64, "verified_steps", count)
    accepted = optional(message.accepted, np.int32, "accepted", count)
    starts = _starts(message.starts, count)
    rows = _rows(message.observations, count)
    verified_trees = _optional_trees(message.verified_trees, "verified_trees", count)
    model_trees = _optional_trees(message.model_trees, "model_trees", count)
    sequences = [
        SequenceStep(
            sequence_id=sequence_id,
            base_position=bases[i],
            tokens=tokens[token_offsets[i] : token_offsets[i + 1]],
            start=starts.get(i),
            nodes_max=None if nodes is None else nodes[i],
            finished=finished is not None and bool(finished[i]),
            verified_step=0 if verified is None else verified[i],
            accepted=-1 if accepted is None else accepted[i],
            rows=rows.get(i),
            verified_tree=None if verified_trees is None else verified_trees[i],
            model_tree=None if model_trees is None else model_trees[i],
        )
        for i, sequence_id in enumerate(message.sequence_ids)
    ]
    return StepRequest(
        step_id=message.step_id,
        namespace=message.namespace,
        client_id=message.client_id,
        sequences=sequences,
        options=decode_options(message.options),
    )


def decode_options(message: draft_pb2.DraftOptions) -> DraftOptions:
    cost = None
    if message.HasField("verify_cost"):
        nodes = column(message.verify_cost.nodes, np.int32, "options.verify_cost.nodes")
        field = "options.verify_cost.milliseconds"
        milliseconds = column(message.verify_cost.milliseconds, np.float32, field, len(nodes))
        cost = VerifyCost(nodes, milliseconds)
    return DraftOptions(
        nodes_max=message.nodes_max,
        depth_max=message.depth_max,
        children_max=message.children_max,
        shape=_member(TreeShape, message.shape, "options.shape"),
        method=message.method,
        batch_nodes_max=message.batch_nodes_max,
        verify_cost=cost,
        draft_us_max=message.draft_us_max,
        seed=message.seed,
    )


def encode_request(request: StepRequest) -> draft_pb2.DraftRequest:
    """The message of this step. Columns that nobody set stay empty."""
    parts = request.sequences
    message = draft_pb2.DraftRequest(
        step_id=request.step_id,
        namespace=request.namespace,
        client_id=request.client_id,
        options=_encode_options(request.options),
        sequence_ids=[part.sequence_id for part in parts],
        base_positions=packed("i", [part.base_position for part in parts]),
        token_offsets=encode_offsets([len(part.tokens) for part in parts]),
        tokens=joined([part.tokens for part in parts], _INT32),
        starts=[
            _encode_start(i, part.start) for i, part in enumerate(parts) if part.start is not None
        ],
    )
    if any(part.nodes_max is not None for part in parts):
        most = request.options.nodes_max
        caps = [most if part.nodes_max is None else part.nodes_max for part in parts]
        message.nodes_max = packed("i", caps)
    if any(part.finished for part in parts):
        message.finished = bytes(part.finished for part in parts)
    if any(part.verified_step for part in parts):
        message.verified_steps = packed("Q", [part.verified_step for part in parts])
        message.accepted = packed("i", [part.accepted for part in parts])
    if any(part.rows is not None and len(part.rows) for part in parts):
        message.observations.CopyFrom(_encode_rows(parts))
    if any(part.verified_tree is not None for part in parts):
        message.verified_trees.CopyFrom(encode_trees(p.verified_tree for p in parts))
    if any(part.model_tree is not None for part in parts):
        message.model_trees.CopyFrom(encode_trees(part.model_tree for part in parts))
    return message


def encode_response(response: StepResponse) -> draft_pb2.DraftResponse:
    return draft_pb2.DraftResponse(
        step_id=response.step_id,
        statuses=bytes(response.statuses),
        trees=encode_trees(response.trees),
        draft_us=response.draft_us,
        problems=[
            draft_pb2.Problem(
                index=p.index, field=p.field, value=p.value, limit=p.limit, reason=p.reason
            )
            for p in response.problems
        ],
    )


def decode_response(message: draft_pb2.DraftResponse, count: int) -> StepResponse:
    """The answer for a batch of `count`. InvalidInput where its columns disagree."""
    statuses = numbers(message.statuses, np.uint8, "statuses", count)
    return StepResponse(
        step_id=message.step_id,
        statuses=[_member(Status, status, "statuses") for status in statuses],
        trees=decode_trees(message.trees, "trees", count),
        draft_us=message.draft_us,
        problems=[Problem(p.index, p.field, p.value, p.limit, p.reason) for p in message.problems],
    )


def encode_trees(trees: Iterable[DraftTree | None]) -> draft_pb2.Trees:
    present = list(trees)
    kept = [tree for tree in present if tree is not None]
    return draft_pb2.Trees(
        node_offsets=encode_offsets([0 if tree is None else len(tree) for tree in present]),
        tokens=joined([tree.token for tree in kept], _INT32),
        parents=joined([tree.parent for tree in kept], _INT32),
        probabilities=joined([tree.probability for tree in kept], _FLOAT32),
        sources=joined([tree.source for tree in kept], _UINT32),
        proposals=_encode_proposals(present),
    )


def decode_trees(message: draft_pb2.Trees, field: str, count: int) -> list[DraftTree]:
    """Trees of equal column lengths; probabilities and sources may be left out."""
    tokens = column(message.tokens, np.int32, f"{field}.tokens")
    n = len(tokens)
    cuts = offsets(message.node_offsets, f"{field}.node_offsets", count, n)
    parents = column(message.parents, np.int32, f"{field}.parents", n)
    probabilities = np.zeros(n, np.float32)
    if message.probabilities:
        probabilities = column(message.probabilities, np.float32, f"{field}.probabilities", n)
    sources = np.zeros(n, np.uint32)
    if message.sources:
        sources = column(message.sources, np.uint32, f"{field}.sources", n)
    proposals: list[Proposals | None] = [None] * count
    if message.HasField("proposals"):
        proposals = _proposals(message.proposals, f"{field}.proposals", cuts)
    return [
        DraftTree(tokens[a:b], parents[a:b], probabilities[a:b], sources[a:b], drawn)
        for (a, b), drawn in zip(pairwise(cuts), proposals, strict=True)
    ]


def _encode_proposals(trees: Sequence[DraftTree | None]) -> draft_pb2.Proposals | None:
    """One table for the whole batch, as wide as its widest part; None where nothing was drawn."""
    if all(tree is None or tree.proposals is None for tree in trees):
        return None
    nodes: list[npt.NDArray[np.int32]] = []
    drawn: list[Proposals] = []
    first = 0
    for i, tree in enumerate(trees):
        if tree is not None and (proposals := tree.proposals) is not None and len(proposals):
            nodes.append(np.where(proposals.nodes < 0, -1 - i, proposals.nodes + first))
            drawn.append(proposals)
        first += 0 if tree is None else len(tree)
    if not drawn:
        return None
    width = max(proposals.tokens.shape[1] for proposals in drawn)
    rows = sum(map(len, drawn))
    tokens, probabilities = np.full((rows, width), -1, "<i4"), np.zeros((rows, width), "<f4")
    at = 0
    for proposals in drawn:
        wide, stop = proposals.tokens.shape[1], at + len(proposals)
        tokens[at:stop, :wide] = proposals.tokens
        probabilities[at:stop, :wide] = proposals.probabilities
        at = stop
    return draft_pb2.Proposals(
        width=width,
        nodes=int32s(np.concatenate(nodes)).tobytes(),
        tokens=tokens.tobytes(),
        probabilities=probabilities.tobytes(),
    )


def _proposals(message: draft_pb2.Proposals, field: str, cuts: list[int]) -> list[Proposals | None]:
    """Each tree's rows; None for those without."""
    nodes = column(message.nodes, np.int32, f"{field}.nodes")
    n, width = len(nodes), message.width
    tokens = column(message.tokens, np.int32, f"{field}.tokens", n * width).reshape(n, width)
    flat = column(message.probabilities, np.float32, f"{field}.probabilities", n * width)
    probabilities = flat.reshape(n, width)
    count = len(cuts) - 1
    if n and not -count <= int(nodes.min()) <= int(nodes.max()) < cuts[-1]:
        limit = f"{-count} to {cuts[-1] - 1}"
        raise InvalidInput(f"{field}.nodes", f"{nodes.min()}..{nodes.max()}", limit)
    owner = np.where(nodes < 0, -1 - nodes, np.searchsorted(cuts, nodes, side="right") - 1)
    found: list[Proposals | None] = [None] * count
    for i in np.unique(owner).tolist():
        mine = owner == i
        there = np.where(nodes[mine] < 0, -1, nodes[mine] - cuts[i]).astype(np.int32)
        found[i] = Proposals(there, tokens[mine], probabilities[mine])
    return found


def _member(kind: type[_Enum], value: int, field: str) -> _Enum:
    try:
        return kind(value)
    except ValueError:
        limit = f"0 to {max(kind)}"
        raise InvalidInput(field, value, limit) from None


def _optional_trees(message: draft_pb2.Trees, field: str, count: int) -> list[DraftTree] | None:
    if not message.node_offsets and not message.tokens:
        return None
    return decode_trees(message, field, count)


def _starts(messages: Iterable[draft_pb2.SequenceStart], count: int) -> dict[int, SequenceStart]:
    starts: dict[int, SequenceStart] = {}
    for message in messages:
        if message.index >= count:
            raise InvalidInput("starts.index", message.index, f"0 to {count - 1}")
        if message.index in starts:
            raise InvalidInput("starts.index", message.index, "distinct")
        starts[message.index] = SequenceStart(
            prompt_length=message.prompt_length,
            first_position=message.first_position,
            learn_from=message.learn_from,
            learning=_member(Learning, message.learning, "starts.learning"),
            temperature=message.temperature if message.HasField("temperature") else None,
            length_max=message.length_max,
            end_tokens=tuple(column(message.end_tokens, np.int32, "starts.end_tokens").tolist()),
            corpora=tuple(message.corpora),
            namespace=message.namespace,
        )
    return starts


def _rows(message: draft_pb2.Observations, count: int) -> dict[int, Rows]:
    """Rows grouped by sequence, in their order."""
    if not message.ByteSize():
        return {}
    owners = column(message.sequences, np.int32, "observations.sequences")
    n, width = len(owners), message.width
    if n and not width:
        raise InvalidInput("observations.width", width, "1 or more")
    if n and not (int(owners.min()) >= 0 and int(owners.max()) < count):
        raise InvalidInput("observations.sequences", int(owners.max()), f"0 to {count - 1}")
    at = column(message.at, np.int32, "observations.at", n)
    tokens = column(message.tokens, np.int32, "observations.tokens", n * width).reshape(n, width)
    logprobs = np.empty((n, 0), np.float32)
    if message.logprobs:
        flat = column(message.logprobs, np.float32, "observations.logprobs", n * width)
        logprobs = flat.reshape(n, width)
    hidden = None
    if message.hidden:
        wide = message.hidden_width
        flat16 = column(message.hidden, np.float16, "observations.hidden", n * wide)
        hidden = flat16.reshape(n, wide)
    return {
        int(owner): Rows(
            at[mine], tokens[mine], logprobs[mine], None if hidden is None else hidden[mine]
        )
        for owner in np.unique(owners)
        for mine in (owners == owner,)
    }


def _encode_rows(parts: list[SequenceStep]) -> draft_pb2.Observations:
    rows = [(i, p.rows) for i, p in enumerate(parts) if p.rows is not None and len(p.rows)]
    width = min(r.tokens.shape[1] for _, r in rows)
    with_logprobs = all(r.logprobs.shape[1] >= width for _, r in rows)
    hidden = [r.hidden for _, r in rows if r.hidden is not None]
    wide = hidden[0].shape[1] if len(hidden) == len(rows) else 0
    # One column for all: where some have none, or another width, none are sent.
    with_hidden = wide > 0 and all(one.shape[1] == wide for one in hidden)
    return draft_pb2.Observations(
        width=width,
        sequences=np.repeat([i for i, _ in rows], [len(r) for _, r in rows])
        .astype("<i4")
        .tobytes(),
        at=b"".join(int32s(r.at).tobytes() for _, r in rows),
        tokens=b"".join(int32s(r.tokens[:, :width]).tobytes() for _, r in rows),
        logprobs=b"".join(
            np.ascontiguousarray(r.logprobs[:, :width], "<f4").tobytes() for _, r in rows
        )
        if with_logprobs
        else b"",
        hidden_width=wide if with_hidden else 0,
        hidden=b"".join(np.ascontiguousarray(one, "<f2").tobytes() for one in hidden)
        if with_hidden
        else b"",
    )


def _encode_options(options: DraftOptions) -> draft_pb2.DraftOptions:
    message = draft_pb2.DraftOptions(
        nodes_max=options.nodes_max,
        depth_max=options.depth_max,
        children_max=options.children_max,
        shape=int(options.shape),  # type: ignore[arg-type]
        method=options.method,
        batch_nodes_max=options.batch_nodes_max,
        draft_us_max=options.draft_us_max,
        seed=options.seed,
    )
    if options.verify_cost is not None:
        message.verify_cost.nodes = int32s(options.verify_cost.nodes).tobytes()
        milliseconds = np.ascontiguousarray(options.verify_cost.milliseconds, "<f4")
        message.verify_cost.milliseconds = milliseconds.tobytes()
    return message


def _encode_start(index: int, start: SequenceStart) -> draft_pb2.SequenceStart:
    return draft_pb2.SequenceStart(
        index=index,
        prompt_length=start.prompt_length,
        first_position=start.first_position,
        learn_from=start.learn_from,
        learning=int(start.learning),  # type: ignore[arg-type]
        temperature=start.temperature,
        length_max=start.length_max,
        end_tokens=int32s(start.end_tokens).tobytes(),
        corpora=start.corpora,
        namespace=start.namespace,
    )
