"""What one shared store is worth and what it costs: replicas with and without it, a restart, a real Redis."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from retrieval_draft.errors import DraftError
from retrieval_draft.replay.charts import geomean
from retrieval_draft.replay.drafter import Setting
from retrieval_draft.replay.redis_cost import RedisCost, cost_sequences, redis_cost
from retrieval_draft.replay.replicas import Sharing, sharing
from retrieval_draft.replay.restart import Restart, restart
from retrieval_draft.replay.sequences import RecordedFile

COST_REPLICAS = 3


@dataclass(frozen=True, slots=True)
class Gain:
    """MAT shared / MAT private over the files."""

    replicas: int
    files: int
    ratio: float
    ratio_min: float


@dataclass(slots=True)
class Share:
    """`gains` and `restart_ratio` are geometric means over the files; `cost` is of the first file."""

    method: str
    nodes_max: int
    curve: list[Sharing] = field(default_factory=list[Sharing])
    gains: list[Gain] = field(default_factory=list[Gain])
    restarts: list[Restart] = field(default_factory=list[Restart])
    restart_ratio: float = 0.0
    cost: RedisCost | None = None
    cost_missing: str = ""


def passes(files: Sequence[RecordedFile], replicas: Sequence[int]) -> int:
    """How often `share` advances."""
    sequences = sum(len(file.sequences) for file in files)
    arms = sum(1 if count == 1 else 2 for count in replicas)
    halves = sum(len(f.sequences) + 2 * (len(f.sequences) - len(f.sequences) // 2) for f in files)
    return sequences * arms + halves + len(cost_sequences(files[0]))


def share(
    files: Sequence[RecordedFile],
    setting: Setting,
    replicas: Sequence[int],
    delay: int | None,
    advance: Callable[[], None] = lambda: None,
) -> Share:
    """All of it. `delay` as of `sharing`; None: as if all replicas decoded a sequence at any time."""
    done = Share(setting.options.method, setting.options.nodes_max)
    for file in files:
        for count in replicas:
            late = count - 1 if delay is None else delay
            done.curve.append(sharing(file, setting, count, late, advance))
        done.restarts.append(restart(file, setting, advance))
    for count in replicas:
        ratios = [r.shared_mat / r.private_mat for r in done.curve if r.replicas == count]
        done.gains.append(Gain(count, len(ratios), geomean(ratios), min(ratios)))
    done.restart_ratio = geomean(one.restarted_mat / one.cold_mat for one in done.restarts)
    try:
        done.cost = redis_cost(files[0], setting, COST_REPLICAS, advance)
    except DraftError as error:
        done.cost_missing = str(error)
    return done
