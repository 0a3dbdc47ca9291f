"""Segments in plain Python: every suffix is looked at."""

from collections import Counter
from collections.abc import Callable, Sequence

from tests.kernels.twins_trie import Ints

Level = tuple[int, int, int]


class World:
    """A text of codes, 0 behind every document, and its sorted suffixes."""

    def __init__(self, documents: Sequence[Ints]) -> None:
        counts = Counter(token for document in documents for token in document)
        self.vocabulary = sorted(counts, key=lambda token: (-counts[token], token))
        self.code = {token: i for i, token in enumerate(self.vocabulary, 1)}
        self.text = [c for d in documents for c in (*(self.code[token] for token in d), 0)]
        self.order = sorted(range(len(self.text)), key=lambda at: self.text[at:])


def slot_of(token: int) -> int:
    return (token * 2654435769 % 2**32) // 2**7


def code_of(world: World, token: int) -> int:
    return world.code.get(token, 0)


def code_at(world: World, at: int) -> int:
    return world.text[at] if 0 <= at < len(world.text) else 0


def spell_query(world: World, query: Ints, most: int) -> list[int]:
    """The codes of the query's last tokens, as far back as all are known, at most so many."""
    known: list[int] = []
    for token in reversed(query[len(query) - most :]):
        if not (code := code_of(world, token)):
            break
        known.insert(0, code)
    return known


def compare(world: World, rank: int, key: Ints) -> int:
    at = world.order[rank]
    text = world.text[at : at + len(key)]
    return 0 if text == list(key) else -1 if text < list(key) else 1


def bound(world: World, key: Ints, above: int) -> int:
    return sum(compare(world, rank, key) < above for rank in range(len(world.order)))


def sample_bound(keys: Ints, low: int, high: int, key: int) -> int:
    return next((i for i in range(low, high) if keys[i] >= key), high)


def interval(world: World, key: Ints) -> tuple[int, int]:
    return bound(world, key, 0), bound(world, key, 1)


def find_levels(
    world: World, query: Ints, length_min: int, length_max: int, places_max: int
) -> list[Level]:
    """The longest end that occurs, then the powers of two below it while there are too few places."""
    key = spell_query(world, query, min(len(query), length_max))
    ends = {n: interval(world, key[len(key) - n :]) for n in range(1, len(key) + 1)}
    known = [n for n, (low, high) in ends.items() if low < high]
    longest = max(known, default=0)
    if longest < max(1, length_min):
        return []
    levels = [(longest, *ends[longest])]
    for power in (64, 32, 16, 8, 4, 2, 1):
        _, low, high = levels[-1]
        if length_min <= power < longest and high - low < places_max:
            levels.append((power, *ends[power]))
    return levels


def copy_places(
    world: World, query: Ints, length_max: int, level: Level, above: int, step: int, depth: int
) -> list[tuple[int, list[int]]]:
    """(agreement, tokens behind) of every `step`-th place of a level that agrees in less than `above`."""
    length, low, high = level
    key = spell_query(world, query, min(len(query), length_max))
    found = []
    for at in world.order[low:high:step]:
        agreed = length
        while (
            agreed < min(above, len(key))
            and at + length - 1 - agreed >= 0
            and world.text[at + length - 1 - agreed] == key[-1 - agreed]
        ):
            agreed += 1
        behind: list[int] = []
        for code in world.text[at + length : at + length + depth]:
            if code == 0:
                break
            behind.append(world.vocabulary[code - 1])
        if behind and agreed < above:
            found.append((agreed, behind + [-1] * (depth - len(behind))))
    return found


def look(
    world: World, query: Ints, length_min: int, length_max: int, depth: int, room: int
) -> list[tuple[int, list[int]]]:
    """Level by level; of many places an even sample."""
    found: list[tuple[int, list[int]]] = []
    above = length_max + 1
    for level in find_levels(world, query, length_min, length_max, room):
        if len(found) == room:
            break
        step = max(1, -(-(level[2] - level[1]) // (room - len(found))))
        found += copy_places(world, query, length_max, level, above, step, depth)
        above = level[0]
    return found


def count(text: Ints) -> Counter[int]:
    return Counter(text)


def encode(text: Ints, codes: dict[int, int]) -> list[int]:
    return [codes[token] for token in text]


def spell(text: Ints, singles: int, doubles: int) -> list[list[int]]:
    """The bytes of each code."""
    spelled = []
    for code in text:
        two = code - singles
        three = two - 256 * doubles
        if two < 0:
            spelled.append([code])
        elif three < 0:
            spelled.append([singles + two // 256, two % 256])
        else:
            spelled.append([singles + doubles + three // 65536, three // 256 % 256, three % 256])
    return spelled


def ones(bits: int) -> int:
    return bits.bit_count()


def rank_words(words: Ints) -> list[int]:
    return [sum(ones(word) for word in words[:w]) for w in range(len(words))]


def keep_starts(order: Ints, starts: Ints) -> list[int]:
    """The positions of an order that are starts, numbered by them."""
    number = {at: i for i, at in enumerate(starts)}
    return [number[at] for at in order if at in number]


def sample_keys(world: World, sample: int, bits: int, tokens: int) -> list[int]:
    keys = []
    for at in world.order[::sample]:
        behind = [*world.text[at + 1 : at + 1 + tokens], *[0] * tokens][:tokens]
        keys.append(sum(code << bits * (tokens - 1 - d) for d, code in enumerate(behind)))
    return keys


def fill_slots(vocabulary: Ints) -> dict[int, int]:
    return {token: code for code, token in enumerate(vocabulary, 1)}


def stand(rows: Sequence[tuple[int, int]], width: int) -> list[tuple[int, int, int]]:
    """(position, length, next) of rows (length, next), longest first."""
    places = [(i * width, length, following) for i, (length, following) in enumerate(rows)]
    return sorted(places, key=lambda place: -place[1])


TWO_WIDTHS = {
    *("segment.code_of", "segment.code_at", "segment.spell_query", "segment.compare"),
    *("segment.bound", "segment.sample_bound", "segment.interval", "segment.find_levels"),
    *("segment.copy_places", "segment.look"),
    *("prefixes.code_behind", "prefixes.run_stop", "prefixes.grow_prefixes"),
}
"""Compiled for codes of two bytes and of four."""

TWINS: dict[str, Callable[..., object]] = {
    "segment.slot_of": slot_of,
    "segment.code_of": code_of,
    "segment.code_at": code_at,
    "segment.spell_query": spell_query,
    "segment.compare": compare,
    "segment.bound": bound,
    "segment.sample_bound": sample_bound,
    "segment.interval": interval,
    "segment.find_levels": find_levels,
    "segment.copy_places": copy_places,
    "segment.look": look,
    "segment_build.count": count,
    "segment_build.encode": encode,
    "segment_build.spell": spell,
    "segment_build.ones": ones,
    "segment_build.rank_words": rank_words,
    "segment_build.keep_starts": keep_starts,
    "segment_build.sample_keys": sample_keys,
    "segment_build.fill_slots": fill_slots,
    "standing.stand": stand,
}
