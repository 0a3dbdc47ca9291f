"""What drawing drafts is worth: `stand` with `match` and its likeliest children, against `recursive`
with drawn ones (Song et al., arXiv 2506.04708, claim more for drawn drafts from temperature 0.6 on).
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from retrieval_draft.engine_client import EngineClient
from retrieval_draft.gpu.decoder import Decoder
from retrieval_draft.gpu.request import Figures, Request, Total
from retrieval_draft.gpu.sampling import SamplingOptions
from retrieval_draft.gpu.sidecar import converse
from retrieval_draft.gpu.target import TargetModel
from retrieval_draft.gpu.verify import RULES
from retrieval_draft.step import DraftOptions
from retrieval_draft.tree import Int32Array

STEP_MS_MAX = 1000.0
"""Every step gets its drafts: what is compared is what they are worth, not their time."""


@dataclass(frozen=True, slots=True)
class RuleFigures:
    """One rule at one temperature; MAT and accepted are per step over all steps."""

    rule: str
    temperature: float
    tokens: int
    steps: int
    mat: float
    drafted: float
    accepted: float


def compared(
    model: TargetModel,
    prompts: Sequence[Int32Array],
    temperatures: Sequence[float],
    samples: int,
    tokens_max: int,
    nodes_max: int,
    advance: Callable[[], None] = lambda: None,
) -> list[RuleFigures]:
    """Both rules at every temperature, each from a fresh store; `samples` outputs of every prompt in turn.

    The outputs differ between the rules, their law does not.
    """
    found: list[RuleFigures] = []
    for temperature in temperatures:
        for rule in RULES:
            figures = _decoded(model, prompts, rule, temperature, samples, tokens_max, nodes_max)
            found.append(_summed(rule, temperature, figures))
            advance()
    return found


def _decoded(
    model: TargetModel,
    prompts: Sequence[Int32Array],
    rule: str,
    temperature: float,
    samples: int,
    tokens_max: int,
    nodes_max: int,
) -> list[Figures]:
    with closing(EngineClient.in_memory()) as client:
        options = DraftOptions(nodes_max=nodes_max, method="stand", seed=int(rule == "recursive"))
        drafter = converse(client, model, "bench", options, step_ms_max=STEP_MS_MAX)
        length_max = max(len(prompt) for prompt in prompts) + tokens_max
        decoder = Decoder(
            model,
            slots=1,
            length_max=length_max,
            nodes_max=nodes_max,
            drafter=drafter,
            rule=RULES[rule],
        )
        figures: list[Figures] = []
        for sample in range(samples):
            for i, prompt in enumerate(prompts):
                sampling = SamplingOptions(temperature, seed=1 + i + sample * len(prompts))
                decoder.admit(Request(f"{sample}/{i}", prompt, tokens_max, sampling))
                while decoder.active:
                    ended = [one.figures for one in decoder.step() if one.finish is not None]
                    figures += ended
        return figures


def _summed(rule: str, temperature: float, figures: Sequence[Figures]) -> RuleFigures:
    total = Total.of(figures)
    return RuleFigures(
        rule,
        temperature,
        total.output_tokens,
        total.steps,
        total.mat,
        total.drafted_per_step,
        total.accepted_per_step,
    )
