"""Following what was committed in plain Python: token by token, each teaches before it is learned."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.kernels import twins_matching as matching
from tests.kernels import twins_mixing as mixing
from tests.kernels import twins_ngrams
from tests.kernels.twins_evidence import CONTEXT, Places, World, gather

TAIL, LOOP_PERIOD_MAX, COMMON_KEPT = 24, 16, 96


@dataclass
class Root:
    tail: list[int] = field(default_factory=list)
    """Newest first."""
    places: Places = field(default_factory=lambda: ([], [], []))


def in_loop(root: Root, context_stop: int) -> bool:
    return any(
        place.gap == 0
        and place.length == matching.AGREEMENT_MAX
        and context_stop - place.position <= LOOP_PERIOD_MAX
        for place in root.places[CONTEXT]
    )


def read_tail(world: World) -> list[int]:
    return [token for _, token in sorted(world.context.items(), reverse=True)][:TAIL]


def follow(
    world: World, root: Root, skill: mixing.Skill, tokens: Sequence[int], teaching_from: int
) -> None:
    for i, came in enumerate(tokens):
        if i >= teaching_from and not in_loop(root, len(world.context)):
            e = gather(world, root.places, root.tail, 0.0)
            if not mixing.is_listed(e, came):
                world.common_total = mixing.count_common(
                    world.common, world.common_total, COMMON_KEPT, came
                )
            mixing.teach(came, e, skill)
        at = len(world.context)
        world.context[at] = came
        twins_ngrams.count(world.context, world.context_table, at, at + 1)
        if i < teaching_from:
            root.places = ([], [], [])
        if i + 1 < min(teaching_from, len(tokens)):
            continue
        root.tail = read_tail(world)
        moved = matching.move(world, root.places, came, [], at + 1)
        root.places = matching.renew(world, moved)


TWINS: dict[str, Callable[..., object]] = {
    "following.in_loop": in_loop,
    "following.read_tail": read_tail,
    "following.follow_within": follow,
    "following.follow": follow,
}
