"""One way to decode, timed round by round: plain, with prompt lookup, with a sidecar's drafts."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from retrieval_draft.conversation import Conversation
from retrieval_draft.drafter import Drafter
from retrieval_draft.gpu.bench.forced import ForcedDecoder
from retrieval_draft.gpu.bench.lookup import LookupDrafter
from retrieval_draft.gpu.decoder import Decoder
from retrieval_draft.gpu.draft_models.causal import CausalDrafts
from retrieval_draft.gpu.fusion import priced
from retrieval_draft.gpu.live_cost import LiveCosts
from retrieval_draft.gpu.request import Committed, Figures, Request, Total
from retrieval_draft.gpu.runner import Runner
from retrieval_draft.tree import Int32Array, int32s

PLAIN, LOOKUP, MIX, MIX_HERE = "plain", "lookup", "mix", "mix-in-process"
MODEL, FUSED_RASD, FUSED_MIX = "draft-model", "fused-rasd", "fused-mix"
FUSIONS = {FUSED_RASD: "rasd", FUSED_MIX: "mix"}
ARMS = (PLAIN, LOOKUP, MIX, MIX_HERE, MODEL, FUSED_RASD, FUSED_MIX)
NEED_MODEL = (MODEL, *FUSIONS)


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A sequence to decode; with an `output` it is forced along it."""

    sequence_id: str
    prompt: Int32Array
    tokens_max: int
    output: Int32Array | None = None

    def request(self) -> Request:
        return Request(self.sequence_id, self.prompt, self.tokens_max, ignore_end=True)


@dataclass(slots=True)
class Round:
    """One batch of tasks decoded: without prefill, and without the tokens that prefill gave."""

    tokens: int
    seconds: float
    cpu_seconds: float
    """Of this process, all threads: what other processes do to the machine is not in it."""

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds


class Arm:
    """Decodes batches with one drafter over slots that several arms share, one arm at a time."""

    def __init__(
        self,
        name: str,
        runner: Runner,
        drafter: Drafter | None,
        costs: LiveCosts | None = None,
        *,
        is_forced: bool,
    ) -> None:
        self.name = name
        self.rounds: list[Round] = []
        self.figures: list[Figures] = []
        self.outputs: dict[str, list[int]] = {}
        kind = ForcedDecoder if is_forced else Decoder
        self.decoder = kind(
            runner.model,
            slots=runner.slots,
            length_max=runner.length_max,
            nodes_max=runner.nodes_max,
            drafter=drafter,
            runner=runner,
            costs=costs,
        )

    def decode(self, tasks: Sequence[Task]) -> None:
        """All of them at once, to their ends."""
        if isinstance(self.decoder, ForcedDecoder):
            self.decoder.outputs = {
                task.sequence_id: task.output.tolist() for task in tasks if task.output is not None
            }
        for task in tasks:
            self._take(self.decoder.admit(task.request()))
        began, cpu_began, before = time.perf_counter(), time.process_time(), self.total.gained
        while self.decoder.active:
            for committed in self.decoder.step():
                self._take(committed)
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
        self.rounds.append(Round(self.total.gained - before, seconds, cpu_seconds))

    @property
    def total(self) -> Total:
        return Total.of(self.figures)

    @property
    def sequences_per_step(self) -> float:
        return self.total.steps / max(1, self.decoder.clock.steps)

    def _take(self, committed: Committed) -> None:
        self.outputs.setdefault(committed.sequence_id, []).extend(committed.tokens.tolist())
        if committed.finish is not None:
            self.figures.append(committed.figures)


class Unobserved:
    """A conversation that is told tokens only: what a model of noise predicts would mislead it."""

    observation_width = hidden_width = 0

    def __init__(self, talk: Conversation) -> None:
        self.open, self.commit, self.draft = talk.open, talk.commit, talk.draft
        self.finish = talk.finish


def new_arm(
    name: str,
    runner: Runner,
    talk: Conversation | None,
    model: CausalDrafts | None = None,
    costs: LiveCosts | None = None,
    *,
    is_forced: bool,
) -> Arm:
    """An arm by its name; it needs a conversation to draft from a store, a model to draft with one."""
    drafter: Drafter | None = None
    if name == LOOKUP:
        drafter = LookupDrafter()
    elif model is not None and costs is not None:
        drafter = priced(talk, model, FUSIONS.get(name, "rasd"), runner.slots, costs.measured)
    elif talk is not None:
        drafter = Unobserved(talk) if is_forced else talk
    return Arm(name, runner, drafter, costs, is_forced=is_forced)


def teach(talk: Conversation, tasks: Sequence[Task], nodes_max: int) -> None:
    """Let a store see recorded outputs as if they were being decoded, drafts and all, with no model."""
    for task in tasks:
        if task.output is None:
            continue
        name, output = task.sequence_id, task.output.tolist()
        talk.open(name, task.prompt, length_max=len(task.prompt) + len(output))
        talk.commit(name, int32s(output[:1]), -1)
        at = 1
        while at < len(output):
            tree = talk.draft({name: nodes_max}).get(name)
            path = [] if tree is None else _kept(tree.token, tree.parent, output[at:-1])
            talk.commit(
                name, int32s(output[at : at + len(path) + 1]), -1 if tree is None else len(path)
            )
            at += len(path) + 1
        talk.finish(name)


def _kept(token: Int32Array, parent: Int32Array, output: Sequence[int]) -> list[int]:
    """The nodes that verification would keep of this tree."""
    path: list[int] = []
    node = -1
    for wanted in output:
        found = ((parent == node) & (token == wanted)).nonzero()[0]
        if not len(found):
            break
        node = int(found[0])
        path.append(node)
    return path
