"""The check at load: a model that computes a tree differently from its paths is refused.

A small random tree behind a random context goes through slots, masks and compaction; every node's
logits must be those of a plain forward over its path from the first token. It costs a few forwards
of some dozen tokens.
"""

import numpy as np
import torch
from torch import Tensor

from retrieval_draft.errors import InvalidInput
from retrieval_draft.gpu.runner import Runner
from retrieval_draft.gpu.target import SUITABLE, TargetModel
from retrieval_draft.tree import DraftTree, Int32Array, int32s

PARENTS = (-1, -1, 0, 1, 0, 2, 3)
PATH = (1, 3, 6)  # accepted, so that compaction has something to move
CONTEXT_TOKENS = 12
WINDOW_PROBED_MAX = 128  # a context beyond a wider window would cost too much at every load
# Root mean square of the difference over the standard deviation of the logits. A wrong mask or
# position moves them by the order of 1, rounding by the order of the dtype's precision.
TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.05}


def probe(model: TargetModel) -> None:
    """Raises InvalidInput if the model cannot verify trees."""
    generator = np.random.default_rng(0)
    window = model.window or 0
    context_length = window + 4 if window <= WINDOW_PROBED_MAX else CONTEXT_TOKENS
    context_length = min(max(context_length, CONTEXT_TOKENS), model.context_tokens_max - 8)
    context = int32s(generator.integers(0, model.vocab_size, context_length))
    # Distinct tokens, so that no two nodes have the same path.
    tokens = generator.permutation(min(model.vocab_size, 1000))[: len(PARENTS) + 1]
    tree = DraftTree(int32s(np.resize(tokens[1:], len(PARENTS))), int32s(PARENTS))
    try:
        with torch.inference_mode():
            off = _difference(model, context, int(tokens[0]), tree)
    except InvalidInput:
        raise
    except Exception as error:  # whatever remote modelling code raises, the model is unsuitable
        reason = f"a tree forward failed: {type(error).__name__}: {error}"
        raise InvalidInput("model", model.name, SUITABLE, reason) from error
    tolerance = TOLERANCES.get(model.dtype, 1e-3)
    if not off <= tolerance:
        reason = f"a tree's logits differ from its paths' by {off:.2g} of their deviation"
        raise InvalidInput("model", model.name, SUITABLE, f"{reason}, {tolerance:g} is allowed")


def _difference(model: TargetModel, context: Int32Array, root: int, tree: DraftTree) -> float:
    runner = Runner(model, slots=2, length_max=len(context) + 16, nodes_max=len(tree))
    cached = [len(context), len(context) - 3]
    for slot, length in enumerate(cached):
        runner.prefill(slot, context[:length])
    batch = runner.step(cached, [root, root], [tree, tree])
    alone = runner.step(cached[:1], [root], [tree])
    off = [_off(alone[0], batch[0])]
    for slot, length in enumerate(cached):
        paths = [_path(tree, node) for node in range(-1, len(tree))]
        plain = [
            _plain(model, np.concatenate([context[:length], [root], tree.token[path]]))
            for path in paths
        ]
        off.append(_off(batch[slot], torch.stack(plain)))
    runner.keep(cached[:1], [PATH])
    follower = int(tree.token[0])
    after = runner.step([cached[0] + 1 + len(PATH)], [follower], [DraftTree(*_none())])
    whole = np.concatenate([context, [root], tree.token[list(PATH)], [follower]])
    off.append(_off(after[0], _plain(model, whole)[None]))
    return max(off)


def _none() -> tuple[Int32Array, Int32Array]:
    return int32s([]), int32s([])


def _path(tree: DraftTree, node: int) -> list[int]:
    path: list[int] = []
    while node >= 0:
        path.insert(0, node)
        node = int(tree.parent[node])
    return path


def _plain(model: TargetModel, tokens: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Tensor:
    """Logits [V] after `tokens`, with the model's own causal mask and no cache."""
    ids = torch.from_numpy(tokens.astype(np.int64)).to(model.device)[None]
    logits: Tensor = model.module(input_ids=ids, use_cache=False).logits
    return logits[0, -1]


def _off(found: Tensor, expected: Tensor) -> float:
    difference = (found.float() - expected.float()).square().mean().sqrt()
    return float(difference / expected.float().std().clamp_min(1e-6))
