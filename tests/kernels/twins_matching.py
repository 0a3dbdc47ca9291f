"""Places that agree with a path, in plain Python: texts by position, searched from end to end."""

from collections.abc import Callable, Mapping, Sequence

from tests.kernels.twins_evidence import CONTEXT, CORPUS, LEARNED, Place, Places, World

AGREEMENT_MAX, PLACES_PER_RING, ENOUGH, GAPS_PER_SCOPE, LONG, PLACES_MAX, TAIL = (
    64, 8, 4, 4, 16, 48, 24
)  # fmt: skip


def agreement(text: Mapping[int, int], end: int, context: Mapping[int, int]) -> int:
    last = max(context)
    length = 0
    while length < AGREEMENT_MAX and (text.get(end - length, -2) == context.get(last - length, -3)):
        length += 1
    return length


def search(text: Mapping[int, int], context: Mapping[int, int]) -> list[Place]:
    """Agreements of 7 tokens and more, newest first; those of 3 to 6 where there are not enough."""
    found: list[Place] = []
    for least, most in ((7, AGREEMENT_MAX), (3, 6)):
        if len(context) < least or len(found) >= ENOUGH:
            continue
        for end in sorted(text, reverse=True):
            if text.get(end + 1, -1) >= 0 and len(found) < PLACES_PER_RING:
                length = agreement(text, end, context)
                if least <= length <= most:
                    found.append(Place(end + 1, length, text[end + 1]))
    return sorted(found, key=lambda place: -place.length)


def gap_after(length: int, gap: int) -> int:
    if gap == 0:
        return 0 if length < 3 else 1 if length < LONG else 2
    if gap <= 2:
        return 3
    return 4 if length >= 1 else 0


def move(
    world: World, places: Places, token: int, path: Sequence[int], context_stop: int
) -> Places:
    """`path` are the tokens behind `context_stop`; the last of them is `token`."""
    # A loop: behind its end the context goes on as the path does, as far as the path's tail is known.
    extended = {**world.context, **dict(enumerate(path, start=context_stop))}
    stop = context_stop + len(path)
    extended = {p: t for p, t in extended.items() if p < context_stop or stop - p <= TAIL}
    moved: Places = ([], [], [])
    for scope, text in ((CONTEXT, extended), (LEARNED, world.learned), (CORPUS, world.corpus)):
        gaps = 0
        kept: list[Place] = []
        for place in places[scope]:
            if sum(map(len, moved)) + len(kept) == PLACES_MAX:
                break
            length, gap = min(AGREEMENT_MAX, place.length + 1), place.gap
            if place.next != token:
                length, gap = 0, gap_after(place.length, place.gap)
                if gap == 0:
                    continue
            if gap:
                if gaps == GAPS_PER_SCOPE:
                    continue
                gaps += 1
            following = text.get(place.position + 1, -1)
            if following >= 0:
                kept.append(Place(place.position + 1, length, following, gap))
        moved[scope].extend(sorted(kept, key=lambda place: place.gap > 0))
    return moved


def renew(world: World, moved: Places) -> Places:
    renewed: Places = ([], [], [])
    for scope, text in ((CONTEXT, world.context), (LEARNED, world.learned), (CORPUS, {})):
        if scope != CORPUS:
            renewed[scope].extend(search(text, world.context))
        positions = {place.position for place in renewed[scope]}
        for place in moved[scope]:
            interrupted = place.gap > 0 and place.length < LONG
            if scope == CORPUS or (interrupted and place.position not in positions):
                if sum(map(len, renewed)) == PLACES_MAX:
                    break
                renewed[scope].append(place)
                positions.add(place.position)
    return renewed


TWINS: dict[str, Callable[..., object]] = {
    "matching.search": search,
    "matching.gap_after": gap_after,
    "matching.move": move,
    "matching.renew": renew,
}
