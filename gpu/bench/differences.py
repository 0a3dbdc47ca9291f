"""Where drafted outputs leave the plain ones, and how near the two tokens were there.

In float32 nothing may differ. In bfloat16 a forward of another shape rounds otherwise, and a near-tie
can fall the other way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from retrieval_draft.gpu.bench.arms import Task
from retrieval_draft.gpu.decoder import Decoder
from retrieval_draft.tree import int32s


@dataclass(frozen=True, slots=True)
class Differences:
    """Of all tokens compared, `tokens` differ, in `sequences`; `margin_max` is the largest gap between
    the logits of the two tokens where a sequence first differs.
    """

    compared: int
    tokens: int
    sequences: int
    margin_max: float


def differences(
    decoder: Decoder,
    tasks: Sequence[Task],
    plain: Mapping[str, Sequence[int]],
    drafted: Mapping[str, Sequence[int]],
) -> Differences:
    """Writes over slot 0 of an idle decoder, to look at the logits again."""
    tokens = sequences = compared = 0
    margin = 0.0
    for task in tasks:
        a, b = np.array(plain[task.sequence_id]), np.array(drafted[task.sequence_id])
        compared += len(a)
        off = np.flatnonzero(a != b)
        if not len(off):
            continue
        tokens, sequences = tokens + len(off), sequences + 1
        first = int(off[0])
        whole = np.concatenate([task.prompt, int32s(a[:first])])
        with torch.inference_mode():
            logits = decoder.runner.prefill(0, int32s(whole))[0]
        margin = max(margin, abs(float(logits[int(a[first])] - logits[int(b[first])])))
    return Differences(compared, tokens, sequences, margin)
