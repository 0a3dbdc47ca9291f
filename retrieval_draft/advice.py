"""What to change in a namespace's drafting, computed by replaying its own newest sequences.

Every setting that is tried is replayed from a cold start over the same sequences, the first third of
which only teaches. Nothing is guessed: an advice says what the replay gave with today's settings and with
the other. The target's predictions are not kept, so methods that live on them are underrated.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from retrieval_draft.config import Config
from retrieval_draft.drafting.budget import milliseconds
from retrieval_draft.namespace import NamespaceState
from retrieval_draft.replay.drafter import EngineDrafter, Setting
from retrieval_draft.replay.play import play
from retrieval_draft.replay.sequences import Recorded, RecordedFile
from retrieval_draft.step import DraftOptions, VerifyCost
from retrieval_draft.tree import int32s

SEQUENCES_MIN = 6
"""Fewer say nothing."""
TAUGHT_SHARE = 1 / 3
BUDGETS = (4, 8, 16, 32, 64)
METHODS = ("mix", "suffix")
CORPORA_MAX = 4
WORTH = 0.01
"""A gain below is noise."""
IDLE = 0.002
"""A corpus that brings less than this..."""
SLOW = 0.1
"""...and takes more than this of the time is in the way."""
PER_STEP, PER_MS = "tokens per step", "tokens per ms of verification"


@dataclass(frozen=True, slots=True)
class Arm:
    """One setting over the sample, its first third apart."""

    mat: float
    nodes: float
    value: float
    """Of what is compared: tokens per step, or per millisecond where the cost is known."""
    draft_us: float


@dataclass(frozen=True, slots=True)
class Advice:
    """Follow `action`, and `now` becomes `then`."""

    kind: str
    text: str
    action: str
    now: float
    then: float
    unit: str

    @property
    def gain(self) -> float:
        """Relative."""
        return self.then / self.now - 1 if self.now else 0.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How many replays are done of how many; with the last one the advice, most worthwhile first."""

    done: int
    replays: int
    sequences: int
    tokens: int
    advice: tuple[Advice, ...] = ()


class Adviser:
    """One namespace's. `pause` is called after every replayed sequence: it may wait, or raise to end it."""

    def __init__(
        self,
        state: NamespaceState,
        config: Config,
        cost: VerifyCost | None = None,
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        self._state = state
        self._pause = pause
        asked, batch = state.asked or DraftOptions(), max(1, state.batch)
        self._cost = cost or asked.verify_cost
        self._batch = batch
        self._now = replace(
            asked,
            nodes_max=asked.nodes_max or config.nodes_max,
            method=asked.method or config.method,
            # At least one: 0 would be any number.
            batch_nodes_max=min(asked.batch_nodes_max, max(1, asked.batch_nodes_max // batch)),
            verify_cost=_of_one(asked.verify_cost, batch),
            draft_us_max=0,
            seed=0,
        )
        self._sequences = [
            Recorded(one.prompt, one.output, None, one.temperature)
            for one in state.sample.sequences()
        ]
        self._file = RecordedFile(
            state.key.namespace,
            state.spec.vocab_size,
            self._sequences,
            state.spec.end_tokens,
        )

    def advise(self) -> Iterator[Progress]:
        """Replay one setting after the other. Costs seconds to a minute of one processor."""
        count = len(self._sequences)
        if count < SEQUENCES_MIN:
            text = f"{count} finished sequences are kept, {SEQUENCES_MIN} are needed"
            advice = Advice("sample", text, "ask again later", 0.0, 0.0, self._unit)
            yield self._progress(0, 0, (advice,))
            return
        plans = self._plans()
        arms: dict[str, Arm] = {}
        for done, (name, run) in enumerate(plans):
            yield self._progress(done, len(plans))
            arms[name] = run()
        found = sorted(self._judged(arms), key=lambda one: -one.gain)
        if not found:
            now = arms["now"].value
            text = f"nothing that was tried is better by {WORTH:.0%} than what you have"
            found = [Advice("keep", text, "change nothing", now, now, self._unit)]
        yield self._progress(len(plans), len(plans), tuple(found))

    @property
    def _unit(self) -> str:
        return PER_MS if self._cost is not None else PER_STEP

    def _progress(self, done: int, replays: int, advice: tuple[Advice, ...] = ()) -> Progress:
        return Progress(done, replays, len(self._sequences), self._file.output_tokens, advice)

    def _plans(self) -> list[tuple[str, Callable[[], Arm]]]:
        now, prompts = self._now, self._state.spec.learn_prompts
        corpora = sorted(self._state.corpus_tiers())

        def arm(options: DraftOptions, without: str = "", learn: bool = prompts) -> Arm:
            return self._replayed(options, without, learn_prompts=learn)

        plans: list[tuple[str, Callable[[], Arm]]] = [("now", lambda: arm(now))]
        for nodes in BUDGETS:
            if nodes != now.nodes_max:
                plans.append((f"nodes_max {nodes}", lambda n=nodes: arm(replace(now, nodes_max=n))))  # type: ignore[misc]
        for method in METHODS:
            if method != now.method:
                plans.append((f"method {method}", lambda m=method: arm(replace(now, method=m))))  # type: ignore[misc]
        for name in corpora[:CORPORA_MAX]:
            plans.append((f"corpus {name}", lambda c=name: arm(now, c)))  # type: ignore[misc]
        plans.append(("learn_prompts", lambda: arm(now, learn=not prompts)))
        return plans

    def _replayed(self, options: DraftOptions, without: str, *, learn_prompts: bool) -> Arm:
        spec = self._state.spec
        setting = Setting(options, spec.learned_bytes_max, learn_prompts=learn_prompts)
        with EngineDrafter(self._file, setting) as drafter:
            for name, tier in self._state.corpus_tiers().items():
                if name != without:
                    drafter.state.show(name, tier)
            trace = play(drafter, self._sequences, self._pause)
        first = trace.bounds[max(1, int(len(self._sequences) * TAUGHT_SHARE))]
        gained, nodes = np.array(trace.gained[first:]), np.array(trace.nodes[first:])
        mat = float(gained.mean())
        value = mat
        if self._cost is not None:
            price = milliseconds(self._cost, int(nodes.max()) * self._batch + 1)
            value = float(gained.sum() / (price[nodes * self._batch] / self._batch).sum())
        return Arm(
            mat=mat,
            nodes=float(nodes.mean()),
            value=value,
            draft_us=float(np.median(trace.answer_seconds[first:])) * 1e6,
        )

    def _judged(self, arms: dict[str, Arm]) -> Iterator[Advice]:
        yield from self._of_drafting(arms)
        yield from self._of_nodes(arms)
        yield from self._of_method(arms)
        yield from self._of_corpora(arms)
        yield from self._of_prompts(arms)

    def _advice(self, kind: str, what: str, action: str, now: Arm, then: Arm) -> Advice:
        text = f"{what}: {now.value:.3g} -> {then.value:.3g} {self._unit}"
        if self._cost is not None:
            text += f", {now.mat:.2f} -> {then.mat:.2f} tokens per step"
        return Advice(kind, text, action, now.value, then.value, self._unit)

    def _of_drafting(self, arms: dict[str, Arm]) -> Iterator[Advice]:
        """Whether plain decoding would be faster than everything that was tried."""
        if self._cost is None:
            return
        plain = 1 / (self._cost.plain_ms / self._batch)
        now, best = arms["now"].value, max(arm.value for arm in arms.values())
        if plain > best and plain > now * (1 + WORTH):
            text = f"drafting does not pay here: {now:.3g} tokens per ms, {plain:.3g} without it"
            yield Advice("drafting", text, "draft nothing (nodes_max 0)", now, plain, self._unit)

    def _of_nodes(self, arms: dict[str, Arm]) -> Iterator[Advice]:
        now, asked = arms["now"], self._now.nodes_max
        tried = {n: arms[f"nodes_max {n}"] for n in BUDGETS if f"nodes_max {n}" in arms}
        if self._cost is not None:
            nodes = max(tried, key=lambda n: tried[n].value)
            if tried[nodes].value > now.value * (1 + WORTH):
                action = f"--nodes-max {nodes}, or nodes_max in the request"
                yield self._advice(
                    "nodes_max", f"nodes_max {asked} -> {nodes}", action, now, tried[nodes]
                )
            return
        # Without the cost more nodes are never worse: only fewer that lose nothing can be advised.
        enough = [n for n in tried if n < asked and tried[n].mat >= now.mat * (1 - WORTH)]
        if enough:
            then = tried[min(enough)]
            text = (
                f"nodes_max {asked} -> {min(enough)}: {now.nodes:.1f} -> {then.nodes:.1f} nodes to "
                f"verify a step, for {now.mat:.2f} -> {then.mat:.2f} tokens"
            )
            action = f"--nodes-max {min(enough)}, or nodes_max in the request"
            yield Advice("nodes_max", text, action, now.value, then.value, self._unit)
        more = [n for n in tried if n > asked and tried[n].mat > now.mat * (1 + WORTH)]
        if more:
            then = tried[min(more)]
            text = (
                f"nodes_max {asked} -> {min(more)}: {now.mat:.2f} -> {then.mat:.2f} tokens per step "
                f"for {now.nodes:.1f} -> {then.nodes:.1f} nodes; whether that pays depends on your "
                "verification cost (--cost, or verify_cost in the request)"
            )
            action = f"--nodes-max {min(more)} if verification is cheap"
            yield Advice("nodes_max", text, action, now.value, then.value, self._unit)

    def _of_method(self, arms: dict[str, Arm]) -> Iterator[Advice]:
        now = arms["now"]
        for method in METHODS:
            then = arms.get(f"method {method}")
            if then is not None and then.value > now.value * (1 + WORTH):
                what = f"method {self._now.method} -> {method}"
                yield self._advice("method", what, f"--method {method}", now, then)

    def _of_corpora(self, arms: dict[str, Arm]) -> Iterator[Advice]:
        now = arms["now"]
        for name in self._state.corpus_tiers():
            then = arms.get(f"corpus {name}")
            if then is None:
                continue
            lost = 1 - then.value / now.value
            saved = 1 - then.draft_us / now.draft_us
            if lost < -WORTH or (lost < IDLE and saved > SLOW):
                text = (
                    f"corpus {name} brings {max(0.0, lost):.1%} of the tokens and takes "
                    f"{saved:.0%} of the draft time: {now.value:.3g} -> {then.value:.3g} {self._unit}, "
                    f"{now.draft_us:.0f} -> {then.draft_us:.0f} us without it"
                )
                action = f"retrieval-draft corpus delete {name}, or name the other corpora"
                yield Advice("corpus", text, action, now.value, then.value, self._unit)

    def _of_prompts(self, arms: dict[str, Arm]) -> Iterator[Advice]:
        now, then = arms["now"], arms["learn_prompts"]
        learns = self._state.spec.learn_prompts
        if then.value > now.value * (1 + WORTH):
            what = "prompts are no longer learned" if learns else "prompts are learned, too"
            action = f"a namespace with learn_prompts {'off' if learns else 'on'}"
            yield self._advice("learn_prompts", what, action, now, then)


def _of_one(cost: VerifyCost | None, batch: int) -> VerifyCost | None:
    """The table of a batch of equal sequences as each of them sees it."""
    if cost is None or batch == 1:
        return cost
    nodes, first = np.unique(cost.nodes // batch, return_index=True)
    return VerifyCost(int32s(nodes), (cost.milliseconds[first] / batch).astype(np.float32))
