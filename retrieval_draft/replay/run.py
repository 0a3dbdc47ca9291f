"""A whole replay: every file, method and budget cold in a namespace of its own, and what is best."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from retrieval_draft.config import DENSE_OFF
from retrieval_draft.replay.agreement import agreements
from retrieval_draft.replay.drafter import EngineDrafter, Setting
from retrieval_draft.replay.figures import Figures, figures_of
from retrieval_draft.replay.goodput import (
    FIXED_NODES,
    NODES_MAX,
    PRICES,
    Goodput,
    goodput,
    verify_cost,
)
from retrieval_draft.replay.play import play
from retrieval_draft.replay.replicas import Sharing, counts, sharing
from retrieval_draft.replay.sequences import RecordedFile
from retrieval_draft.step import DraftOptions, TreeShape
from retrieval_draft.tree import Int32Array


@dataclass(frozen=True, slots=True)
class Plan:
    """What to replay. `replicas` above 1 asks for the value of sharing, at the largest budget.

    A method may be named with its dense retrieval, as `mix+tokens`.
    """

    methods: tuple[str, ...]
    nodes: tuple[int, ...]
    shape: TreeShape = TreeShape.TREE
    is_goodput: bool = False
    replicas: int = 1
    delay: int = 0
    learned_bytes_max: int = 0
    documents: tuple[Int32Array, ...] = ()

    def setting(self, method: str, nodes_max: int, price: float | None = None) -> Setting:
        """How one run drafts."""
        name, _, dense = method.partition("+")
        options = DraftOptions(nodes_max=nodes_max, method=name, shape=self.shape)
        if price is not None:
            options = replace(options, verify_cost=verify_cost(price))
        return Setting(options, self.learned_bytes_max, self.documents, dense or DENSE_OFF)

    def passes(self) -> int:
        """How often every file is replayed, for a progress bar."""
        fixed = len(self.methods) * len(set(self.nodes) | set(FIXED_NODES * self.is_goodput))
        priced = len(self.methods) * len(PRICES) * self.is_goodput
        curve = len(self.methods) * (2 * len(counts(self.replicas)) - 1) * (self.replicas > 1)
        return fixed + priced + curve


@dataclass(frozen=True, slots=True)
class DenseCost:
    """What dense retrieval took beside the steps: CPU of its threads per step, building apart; memory."""

    us: float
    build_us: float
    contexts: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Run:
    """One method at one budget over one file."""

    file: str
    method: str
    nodes_max: int
    figures: Figures
    dense: DenseCost | None = None


@dataclass(frozen=True, slots=True)
class Best:
    """The method with the highest MAT of a file at one budget, or the highest goodput at one price."""

    file: str
    method: str
    nodes_max: int | None = None
    price: float | None = None
    mat: float | None = None
    goodput: float | None = None
    settings: str = ""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What was replayed."""

    file: str
    sequences: int
    prompt_tokens: int
    output_tokens: int
    vocab_size: int
    has_rows: bool


@dataclass(slots=True)
class Replay:
    """All figures of a replay; field by field the JSON document."""

    shape: str
    files: list[FileFacts] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    goodput: list[Goodput] = field(default_factory=list)
    sharing: list[Sharing] = field(default_factory=list)
    best: list[Best] = field(default_factory=list)


def replay(
    files: Sequence[RecordedFile], plan: Plan, advance: Callable[[], None] = lambda: None
) -> Replay:
    """Run the plan; `advance` is called after each sequence of each pass."""
    done = Replay(plan.shape.name.lower())
    for file in files:
        prompts = sum(len(sequence.prompt) for sequence in file.sequences)
        done.files.append(
            FileFacts(
                file.name,
                len(file.sequences),
                prompts,
                file.output_tokens,
                file.vocab_size,
                file.has_rows,
            )
        )
        _replay_file(file, plan, done, advance)
    done.best = [one for facts in done.files for one in _best(facts.file, done)]
    return done


def _replay_file(file: RecordedFile, plan: Plan, done: Replay, advance: Callable[[], None]) -> None:
    seen = agreements(file.sequences)
    for method in plan.methods:
        fixed: dict[int, Figures] = {}
        for nodes in sorted({*plan.nodes, *(FIXED_NODES * plan.is_goodput)}):
            with EngineDrafter(file, plan.setting(method, nodes)) as drafter:
                fixed[nodes] = figures_of(play(drafter, file.sequences, advance), seen)
                cost = _dense_cost(drafter, fixed[nodes].steps)
            if nodes in plan.nodes:
                done.runs.append(Run(file.name, method, nodes, fixed[nodes], cost))
        for price in PRICES * plan.is_goodput:
            priced = figures(file, plan.setting(method, NODES_MAX, price), seen, advance)
            against = {nodes: fixed[nodes] for nodes in FIXED_NODES}
            done.goodput.append(goodput(file.name, method, price, priced, against))
        if plan.replicas > 1:
            setting = plan.setting(method, max(plan.nodes))
            for count in counts(plan.replicas):
                done.sharing.append(sharing(file, setting, count, plan.delay, advance))


def figures(
    file: RecordedFile,
    setting: Setting,
    seen: Int32Array | None = None,
    advance: Callable[[], None] = lambda: None,
) -> Figures:
    """One run over one file, from a cold start."""
    with EngineDrafter(file, setting) as drafter:
        return figures_of(play(drafter, file.sequences, advance), seen)


def _dense_cost(drafter: EngineDrafter, steps: int) -> DenseCost | None:
    thread, tier = drafter.engine.stores.dense_thread, drafter.state.dense
    if thread is None or tier is None:
        return None
    used, each = thread.figures, 1e6 / max(1, steps)
    index = tier.index
    return DenseCost(used.seconds * each, used.build_seconds * each, len(index), index.nbytes)


def _best(file: str, done: Replay) -> list[Best]:
    found = []
    runs = [run for run in done.runs if run.file == file]
    for nodes in sorted({run.nodes_max for run in runs}):
        run = max((r for r in runs if r.nodes_max == nodes), key=lambda r: r.figures.mat)
        name, _, dense = run.method.partition("+")
        settings = f"--method {name}{dense and f' --dense {dense}'} --nodes-max {nodes}"
        found.append(Best(file, run.method, nodes, mat=run.figures.mat, settings=settings))
    rows = [one for one in done.goodput if one.file == file]
    for price in sorted({one.price for one in rows}):
        found.append(_best_at([one for one in rows if one.price == price]))
    return found


def _best_at(rows: list[Goodput]) -> Best:
    """The best of the price rule and the fixed budgets at one price, over all methods."""
    priced = max(rows, key=lambda one: one.goodput)
    fixed = max(rows, key=lambda one: one.fixed[one.best_fixed])
    nodes = fixed.best_fixed
    if priced.goodput >= fixed.fixed[nodes]:
        settings = f"--method {priced.method}, and send verify_cost"
        return Best(
            priced.file,
            priced.method,
            price=priced.price,
            goodput=priced.goodput,
            settings=settings,
        )
    settings = f"--method {fixed.method} --nodes-max {nodes}" if nodes else "draft nothing"
    return Best(
        fixed.file, fixed.method, nodes, fixed.price, goodput=fixed.fixed[nodes], settings=settings
    )
