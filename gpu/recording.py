"""Recording a model's outputs for replay: plain decoding, then one pass that reads its predictions.

Outputs are drawn without drafts. The predictions along prompt and output then come from one prefill of
the whole sequence: the same distributions as in decoding, up to the rounding of a batch's shape.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from retrieval_draft.errors import FailedPrecondition
from retrieval_draft.gpu.decoder import Decoder
from retrieval_draft.gpu.hidden import HiddenStates
from retrieval_draft.gpu.observe import joined, observe_prompt
from retrieval_draft.gpu.request import Request
from retrieval_draft.gpu.sampling import SamplingOptions
from retrieval_draft.gpu.target import TargetModel
from retrieval_draft.replay.recording import Float16Array, RecordedSample
from retrieval_draft.replay.sequences import Recorded
from retrieval_draft.step import Rows
from retrieval_draft.tree import Int32Array, int32s


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """A prompt's tokens; its samples are recorded under one group."""

    tokens: Int32Array
    group: str


class Recorder:
    """Decodes up to `slots` sequences at once; `width` predictions are kept of every position.

    Prompts and their outputs must fit `length_max` positions.
    """

    def __init__(
        self,
        model: TargetModel,
        *,
        slots: int,
        length_max: int,
        width: int,
        has_hidden: bool = False,
    ) -> None:
        self._model, self._width, self._has_hidden = model, width, has_hidden
        self._decoder = Decoder(model, slots=slots, length_max=length_max, nodes_max=0)

    def record(
        self,
        prompts: Sequence[Prompt],
        sampling: SamplingOptions,
        samples: int,
        tokens_max: int,
        advance: Callable[[], None] = lambda: None,
    ) -> list[RecordedSample]:
        """`samples` outputs of every prompt, one prompt after the other; `advance` after each output.

        Sample i of all has the seed `sampling.seed` + i. Raises InvalidInput for a prompt that does not
        fit.
        """
        every = [prompt for prompt in prompts for _ in range(samples)]
        requests = [
            Request(
                str(i),
                prompt.tokens,
                tokens_max,
                SamplingOptions(
                    sampling.temperature, sampling.top_p, sampling.top_k, sampling.seed + i
                ),
            )
            for i, prompt in enumerate(every)
        ]
        for request in requests:
            self._decoder.check(request)
        outputs = self._decode(requests, advance)
        recorded = []
        for i, prompt in enumerate(every):
            output = int32s(outputs[str(i)])
            rows, hidden = self._predictions(np.concatenate([prompt.tokens, output])[:-1])
            one = Recorded(prompt.tokens, output, rows, sampling.temperature)
            recorded.append(RecordedSample(one, sampling.seed + i, prompt.group, hidden))
        return recorded

    def _decode(
        self, requests: Sequence[Request], advance: Callable[[], None]
    ) -> dict[str, list[int]]:
        outputs: dict[str, list[int]] = {}
        waiting = list(reversed(requests))
        while waiting or self._decoder.active:
            while waiting and self._decoder.has_room():
                first = self._decoder.admit(waiting.pop())
                outputs[first.sequence_id] = first.tokens.tolist()
                if first.finish is not None:
                    advance()
            for committed in self._decoder.step():
                outputs[committed.sequence_id] += committed.tokens.tolist()
                if committed.finish is not None:
                    advance()
        return outputs

    def _predictions(self, tokens: Int32Array) -> tuple[Rows, Float16Array | None]:
        """Of every position: the most probable next tokens, and the last hidden state if wanted."""
        parts: list[Rows] = []
        states: list[Float16Array] = []
        hidden = HiddenStates(self._model)
        if self._has_hidden and not hidden.watch():
            raise FailedPrecondition(f"{self._model.name} names no output layer to record at")

        def observe(logits: Tensor, start: int) -> None:
            parts.append(observe_prompt(logits, start, self._width))
            if (chunk := hidden.take()) is not None:
                states.append(chunk[0].to("cpu", torch.float16).numpy())

        # Nothing is being decoded now: slot 0 is free to be written over.
        with torch.inference_mode(), closing(hidden):
            self._decoder.runner.prefill(0, tokens, observe)
        return joined(parts), np.concatenate(states) if states else None
