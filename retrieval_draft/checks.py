"""What a step may ask: every check of a request, before anything has changed."""

import math
from itertools import pairwise

from retrieval_draft.config import HIDDEN_WIDTH_MAX, POSITION_MAX, Config
from retrieval_draft.drafting.names import FUSING_METHODS, METHODS
from retrieval_draft.errors import InvalidInput, NotServed
from retrieval_draft.step import DraftOptions, SequenceStart, SequenceStep, StepRequest
from retrieval_draft.store.records import END_TOKENS_MAX
from retrieval_draft.tree import Float32Array, Int32Array

FEW = 32
"""Up to here a list is faster than numpy's calls."""


def check_batch(request: StepRequest, config: Config) -> None:
    """Raises InvalidInput or NotServed for what concerns the whole message."""
    most = config.batch_sequences_max
    if not 1 <= len(request.sequences) <= most:
        raise InvalidInput("sequence_ids", len(request.sequences), f"1 to {most} entries")
    if request.step_id < 1:
        raise InvalidInput("step_id", request.step_id, "1 or more")
    method = request.options.method or config.method
    if method not in FUSING_METHODS and any(part.model_tree for part in request.sequences):
        served = ", ".join(FUSING_METHODS)
        raise NotServed(f"model_trees: {method} does not fuse the worker's drafts; {served} does")


def check_part(part: SequenceStep, config: Config) -> None:
    """Raises InvalidInput for what is wrong with one sequence's part, its token ids apart."""
    if not 1 <= len(part.sequence_id) <= config.id_characters_max:
        limit = f"1 to {config.id_characters_max} characters"
        raise InvalidInput("sequence_ids", part.sequence_id, limit)
    if part.nodes_max is not None and not 0 <= part.nodes_max <= config.nodes_hard_max:
        raise InvalidInput("nodes_max", part.nodes_max, f"0 to {config.nodes_hard_max}")
    if part.base_position < 0:
        raise InvalidInput("base_positions", part.base_position, "0 or more")
    if part.start is not None and part.base_position != 0:
        limit = "0 for a sequence that starts"
        raise InvalidInput("base_positions", part.base_position, limit)


def check_start(start: SequenceStart) -> None:
    """Raises InvalidInput for what is wrong with how a sequence opens, whatever its namespace."""
    for field in ("prompt_length", "first_position", "learn_from", "length_max"):
        if not 0 <= (value := int(getattr(start, field))) <= POSITION_MAX:
            raise InvalidInput(field, value, f"0 to {POSITION_MAX}")
    if start.temperature is not None and not 0 <= start.temperature < float("inf"):
        raise InvalidInput("temperature", start.temperature, "0 or more, finite")


def check_end_tokens(start: SequenceStart, vocab_size: int) -> None:
    """Raises InvalidInput for too many of them, and for an id outside the vocabulary."""
    if len(start.end_tokens) > END_TOKENS_MAX:
        raise InvalidInput("end_tokens", len(start.end_tokens), f"{END_TOKENS_MAX} tokens")
    for token in start.end_tokens:
        if not 0 <= token < vocab_size:
            raise InvalidInput("end_tokens", token, f"0 to {vocab_size - 1}")


def check_ids(part: SequenceStep, vocab_size: int, config: Config) -> None:
    """Raises InvalidInput for an id outside the vocabulary and for a tree that is none. O(tokens + nodes)."""
    _check_tokens("tokens", part.tokens, vocab_size)
    if part.rows is None and part.verified_tree is None and part.model_tree is None:
        return
    if part.rows is not None:
        _check_tokens("observations.tokens", part.rows.tokens, vocab_size)
        hidden = part.rows.hidden
        if hidden is not None and hidden.shape[1] > HIDDEN_WIDTH_MAX:
            limit = f"0 to {HIDDEN_WIDTH_MAX}"
            raise InvalidInput("observations.hidden_width", hidden.shape[1], limit)
    for field, tree in (
        ("verified_trees", part.verified_tree),
        ("model_trees", part.model_tree),
    ):
        if tree is not None and (problem := tree.problem(vocab_size, config.nodes_hard_max)):
            raise InvalidInput(field, f"{len(tree)} nodes", "a draft tree", problem)
    if part.model_tree is not None and not _probable(part.model_tree.probability):
        raise InvalidInput("model_trees.probabilities", "outside", "above 0 to 1")


def checked(options: DraftOptions, config: Config) -> DraftOptions:
    """The options with the server's defaults in place of 0 and "". Raises InvalidInput."""
    most = config.nodes_hard_max
    for field, value in (("nodes_max", options.nodes_max), ("depth_max", options.depth_max)):
        if value > most:
            raise InvalidInput(f"options.{field}", value, f"0 to {most}")
    method = options.method or config.method
    if method not in METHODS:
        raise InvalidInput("options.method", method, f"one of {', '.join(METHODS)}")
    cost = options.verify_cost
    if cost is not None:
        if not len(cost.nodes) or len(cost.nodes) != len(cost.milliseconds):
            limit = "as many nodes as milliseconds, at least one"
            raise InvalidInput("options.verify_cost", len(cost.nodes), limit)
        nodes: list[int] = cost.nodes.tolist()
        if nodes[0] != 0 or any(b <= a for a, b in pairwise(nodes)):
            raise InvalidInput("options.verify_cost.nodes", nodes[0], "ascending from 0")
        if not all(0 < price < math.inf for price in cost.milliseconds.tolist()):
            limit = "finite and above 0"
            raise InvalidInput("options.verify_cost.milliseconds", cost.milliseconds, limit)
    # Field by field: dataclasses.replace would cost more than the checks.
    return DraftOptions(
        options.nodes_max or config.nodes_max,
        options.depth_max or config.depth_max,
        options.children_max or config.nodes_hard_max,
        options.shape,
        method,
        options.batch_nodes_max,
        cost,
        options.draft_us_max,
        options.seed,
    )


def _probable(probability: Float32Array) -> bool:
    return bool(((probability > 0) & (probability <= 1)).all())


def _check_tokens(field: str, tokens: Int32Array, vocab_size: int) -> None:
    if tokens.size:
        if tokens.size <= FEW and tokens.ndim == 1:
            few = tokens.tolist()
            low, high = min(few), max(few)
        else:
            low, high = int(tokens.min()), int(tokens.max())
        if low < 0 or high >= vocab_size:
            raise InvalidInput(field, low if low < 0 else high, f"0 to {vocab_size - 1}")
