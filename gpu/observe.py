"""Observations: the target's most probable tokens, as the drafter learns from them.

Log-probabilities are at temperature 1, of the raw logits, so that rows of different requests agree.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from retrieval_draft.gpu.request import Logprobs
from retrieval_draft.step import Rows
from retrieval_draft.tree import Float32Array, Int32Array, int32s

REJECTED_ROWS_MAX = 8


@dataclass(frozen=True, slots=True)
class Observed:
    """What verification did with row `row` of a batch: root position, tree and accepted path."""

    row: int
    root_position: int
    nodes: int
    path: tuple[int, ...]


def observe_step(
    logits: Tensor, sequences: Sequence[Observed], width: int, states: Tensor | None = None
) -> list[Rows]:
    """Rows of a step's logits [B, n, V]: root, accepted nodes, then rejected ones: on the CPU at most 8.

    The first two are named by absolute position, rejected nodes by -1 - node. One pass over the
    rows asked for and, off the CPU, one transfer. With `states` [B, n, width] every row has its own.
    """
    batch, n, vocab_size = logits.shape
    # On the CPU every row of a vocabulary of 152k costs 0.1 ms and more; a GPU takes them all at once.
    rejected_max = REJECTED_ROWS_MAX if logits.device.type == "cpu" else None
    picked: list[int] = []
    at: list[list[int]] = []
    for sequence in sequences:
        accepted = set(sequence.path)
        rejected = [i for i in range(sequence.nodes) if i not in accepted][:rejected_max]
        nodes = [-1, *sequence.path, *rejected]
        picked.extend(sequence.row * n + node + 1 for node in nodes)
        first = sequence.root_position
        at.append([*range(first, first + 1 + len(sequence.path)), *(-1 - i for i in rejected)])
    flat = logits.reshape(batch * n, vocab_size)
    if max(picked) < len(picked):  # the usual case of one sequence: no copy of whole rows
        tokens, logprobs = _top(flat[: len(picked)], width)
        tokens, logprobs = tokens[picked], logprobs[picked]
    else:
        tokens, logprobs = _top(flat[torch.tensor(picked, device=flat.device)], width)
    hidden = None
    if states is not None:
        chosen = torch.tensor(picked, device=states.device)
        hidden = states.reshape(batch * n, -1)[chosen].to("cpu", torch.float16).numpy()
    rows: list[Rows] = []
    end = 0
    for part in at:
        start, end = end, end + len(part)
        own = None if hidden is None else hidden[start:end]
        rows.append(Rows(int32s(part), tokens[start:end], logprobs[start:end], own))
    return rows


def observe_prompt(logits: Tensor, first_position: int, width: int) -> Rows:
    """Rows of one prefill chunk's logits [c, V], whose first token stands at `first_position`."""
    tokens, logprobs = _top(logits, width)
    return Rows(int32s(np.arange(first_position, first_position + len(tokens))), tokens, logprobs)


def logprobs_of(logits: Tensor, committed: Int32Array, width: int) -> Logprobs:
    """Of committed tokens, which the rows of `logits` [n, V] predicted, and of `width` others each."""
    logits = logits[: len(committed)].float()
    own = logits.gather(1, torch.from_numpy(committed.astype(np.int64)).to(logits.device)[:, None])
    chosen: Float32Array = (own - logits.logsumexp(-1, keepdim=True))[:, 0].cpu().numpy()
    tokens, values = _top(logits, width)
    return Logprobs(chosen, tokens, values)


def joined(rows: Sequence[Rows]) -> Rows:
    """The rows of several chunks as one."""
    return Rows(
        np.concatenate([part.at for part in rows]),
        np.concatenate([part.tokens for part in rows]),
        np.concatenate([part.logprobs for part in rows]),
    )


def _top(logits: Tensor, width: int) -> tuple[Int32Array, Float32Array]:
    """int32[r, k] tokens, most probable first, and their float32[r, k] log-probabilities."""
    logits = logits.float()
    values, tokens = logits.topk(min(width, logits.shape[1]))
    logprobs = values - logits.logsumexp(-1, keepdim=True)
    if logits.device.type == "cpu":
        return tokens.int().numpy(), logprobs.numpy()
    both = torch.stack([tokens.int(), logprobs.view(torch.int32)]).cpu().numpy()
    return both[0], both[1].view(np.float32)
