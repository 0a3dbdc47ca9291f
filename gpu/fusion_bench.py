"""What fusing a draft model with retrieval is worth: MAT of either alone and of both, at equal nodes.

Prompt lookup is the peer. Every arm decodes the same prompts from a fresh store, several at once, and its
outputs are compared with those of plain decoding.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

from retrieval_draft.drafter import Drafter
from retrieval_draft.engine_client import EngineClient
from retrieval_draft.gpu.decoder import Decoder
from retrieval_draft.gpu.draft_models.draft_model import DraftModel
from retrieval_draft.gpu.fusion import FusedDrafter
from retrieval_draft.gpu.request import Figures, Request
from retrieval_draft.gpu.sampling import SamplingOptions
from retrieval_draft.gpu.sidecar import converse
from retrieval_draft.gpu.target import TargetModel
from retrieval_draft.step import DraftOptions
from retrieval_draft.tree import Int32Array

LOOKUP, RETRIEVAL, MODEL = "prompt lookup", "mix", "draft model"
FUSIONS = {"fused, rasd": "rasd", "fused, mix": "mix"}
ARMS = (LOOKUP, RETRIEVAL, MODEL, *FUSIONS)
STEP_MS_MAX = 10_000.0
"""Every step gets its drafts: what is compared is what they are worth, not their time."""


@dataclass(frozen=True, slots=True)
class FusionFigures:
    """One arm; MAT and drafted are per step over all steps."""

    arm: str
    temperature: float
    nodes: int
    tokens: int
    steps: int
    mat: float
    drafted: float
    identical: bool


def compared(
    target: TargetModel,
    new_model: Callable[[], DraftModel],
    prompts: Sequence[Int32Array],
    *,
    temperatures: Sequence[float],
    nodes: Sequence[int],
    tokens_max: int,
    slots: int,
    arms: Sequence[str] = ARMS,
    advance: Callable[[], None] = lambda: None,
) -> list[FusionFigures]:
    """All arms at every temperature and number of nodes; prompt i is sampled with seed i."""
    length_max = max(map(len, prompts)) + tokens_max
    found: list[FusionFigures] = []
    for temperature in temperatures:
        requests = [
            Request(
                f"{i}", prompt, tokens_max, SamplingOptions(temperature, seed=i), ignore_end=True
            )
            for i, prompt in enumerate(prompts)
        ]
        decoder = Decoder(target, slots=slots, length_max=length_max, nodes_max=0)
        plain, _ = _decoded(decoder, requests)
        advance()
        for count in nodes:
            for arm in arms:
                with _drafter(arm, target, new_model, count) as drafter:
                    decoder = Decoder(
                        target,
                        slots=slots,
                        length_max=length_max,
                        nodes_max=count,
                        drafter=drafter,
                    )
                    outputs, figures = _decoded(decoder, requests)
                found.append(_summed(arm, temperature, count, figures, outputs == plain))
                advance()
    return found


@contextmanager
def _drafter(
    arm: str, target: TargetModel, new_model: Callable[[], DraftModel], nodes_max: int
) -> Iterator[Drafter]:
    if arm == MODEL:
        yield new_model()
        return
    method = "lookup" if arm == LOOKUP else "mix"
    with closing(EngineClient.in_memory()) as client:
        options = DraftOptions(nodes_max=nodes_max, method=method)
        talk = converse(client, target, "bench", options, step_ms_max=STEP_MS_MAX)
        yield FusedDrafter(talk, new_model(), FUSIONS[arm]) if arm in FUSIONS else talk


def _decoded(
    decoder: Decoder, requests: Sequence[Request]
) -> tuple[dict[str, list[int]], list[Figures]]:
    waiting = list(requests)
    outputs: dict[str, list[int]] = {}
    figures: dict[str, Figures] = {}
    while waiting or decoder.active:
        joined = [decoder.admit(waiting.pop(0))] if waiting and decoder.has_room() else []
        for committed in [*joined, *decoder.step()]:
            outputs.setdefault(committed.sequence_id, []).extend(committed.tokens.tolist())
            figures[committed.sequence_id] = committed.figures
    return outputs, list(figures.values())


def _summed(
    arm: str, temperature: float, nodes: int, figures: Sequence[Figures], identical: bool
) -> FusionFigures:
    steps = sum(one.steps for one in figures)
    gained = sum(one.output_tokens - 1 for one in figures)
    return FusionFigures(
        arm,
        temperature,
        nodes,
        tokens=sum(one.output_tokens for one in figures),
        steps=steps,
        mat=gained / max(1, steps),
        drafted=sum(one.drafted for one in figures) / max(1, steps),
        identical=identical,
    )
