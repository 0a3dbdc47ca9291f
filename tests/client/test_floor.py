"""What is improbable is not verified, and whoever drafted it is told what was."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest

from retrieval_draft.adapters.pricing import floor_of
from retrieval_draft.adapters.settings import (
    FIRST_PROBABILITY_MIN,
    PROBABILITY_MIN,
    Settings,
    read_cost,
)
from retrieval_draft.client import Client
from retrieval_draft.conversation import Conversation
from retrieval_draft.engine import Engine
from retrieval_draft.engine_client import EngineClient
from retrieval_draft.floor import NO_FLOOR, Floor
from retrieval_draft.step import DraftOptions, TreeShape
from retrieval_draft.tree import DraftTree, Proposals, int32s
from tests.client.scripted import Decoder
from tests.engine.driving import NAMESPACE, VOCAB, learned, running_engine, state_of
from tests.server.sidecars import connected, running_sidecar

TEXT = [token for line in range(8) for token in (1, 2, 3, 4, 5, 6, 7, 8 + line // 2)]
PROMPT = 8
NODES = 8


def chain(*probability: float) -> DraftTree:
    n = len(probability)
    return DraftTree(
        int32s(range(10, 10 + n)), int32s(range(-1, n - 1)), np.array(probability, np.float32)
    )


@pytest.mark.parametrize(
    ("floor", "kept"),
    [
        (NO_FLOOR, 3),
        (Floor(node=0.125), 3),
        (Floor(node=0.2), 2),
        (Floor(node=0.6), 0),
        (Floor(first=0.5), 3),
        (Floor(first=0.6), 0),
        (Floor(node=0.2, first=0.4), 2),
    ],
)
def test_a_chain_ends_where_it_is_not_worth_it(floor: Floor, kept: int) -> None:
    whole = chain(0.5, 0.25, 0.125)
    found = floor.kept(whole)
    assert len(found) == kept
    assert found.token.tolist() == whole.token.tolist()[:kept]
    assert found.problem(VOCAB, 3) is None


def test_a_drawn_chain_stays_whole() -> None:
    drawn = Proposals(int32s([-1]), int32s([[10]]), np.array([[0.1]], np.float32))
    whole = chain(0.1)
    whole = DraftTree(whole.token, whole.parent, whole.probability, whole.source, drawn)
    assert Floor(node=0.5, first=0.5).kept(whole) is whole


def test_floors_are_for_chains_with_calibrated_probabilities_and_without_a_price() -> None:
    default = Settings()
    assert floor_of(default, TreeShape.CHAIN) == Floor(PROBABILITY_MIN, FIRST_PROBABILITY_MIN)
    assert floor_of(replace(default, method="mix"), TreeShape.CHAIN) != NO_FLOOR
    assert floor_of(default, TreeShape.TREE) == NO_FLOOR
    assert floor_of(replace(default, method="lookup"), TreeShape.CHAIN) == NO_FLOOR
    assert floor_of(replace(default, cost=read_cost("", "0:1,8:2")), TreeShape.CHAIN) == NO_FLOOR


Way = tuple[Engine, Client]


@pytest.fixture(params=["in process", "sidecar"])
def way(request: pytest.FixtureRequest) -> Iterator[Way]:
    with ExitStack() as stack:
        if request.param == "sidecar":
            sidecar = stack.enter_context(running_sidecar())
            yield sidecar.engine, stack.enter_context(connected(sidecar.targets[0]))
        else:
            engine = stack.enter_context(running_engine())
            yield engine, EngineClient(engine)


def decode(client: Client, floor: Floor) -> tuple[list[Decoder], list[int]]:
    """Two texts in one batch, drafted by `lookup`: probabilities of 1/2, 1/4, 1/8 and so on.

    The second never repeats itself, so that it has no tree to cut.
    """
    options = DraftOptions(method="lookup", shape=TreeShape.CHAIN)
    talk = Conversation(client, NAMESPACE, VOCAB, options, floor=floor, step_ms_max=10_000)
    texts = {"repeating": TEXT, "other": list(range(1, 65))}
    decoders = [Decoder(talk, text, name).open(PROMPT) for name, text in texts.items()]
    sizes: list[int] = []
    while going := [one for one in decoders if one.stop < len(one.text)]:
        trees = talk.draft({one.name: NODES for one in going})
        for one in going:
            tree = trees.get(one.name)
            sizes.append(0 if tree is None else len(tree))
            one.verify(tree)
    for one in decoders:
        talk.finish(one.name)
    assert talk.flush()
    assert talk.figures.failed == 0
    return decoders, sizes


def test_the_drafter_counts_what_was_verified_and_not_what_it_drafted(way: Way) -> None:
    engine, client = way
    (decoder, _), sizes = decode(client, Floor(node=0.2))
    assert max(sizes) == 2
    assert decoder.accepted > 20
    counters = state_of(engine).counters
    assert (counters.drafted, counters.accepted) == (sum(sizes), decoder.accepted)
    assert counters.ignored_feedback == 0
    assert learned(engine) == 2 * (len(TEXT) - PROMPT)


def test_a_floor_above_all_that_is_drafted_leaves_plain_steps_and_learning(way: Way) -> None:
    engine, client = way
    (decoder, _), sizes = decode(client, Floor(first=0.6))
    assert sum(sizes) == decoder.accepted == state_of(engine).counters.drafted == 0
    assert learned(engine) == 2 * (len(TEXT) - PROMPT)
