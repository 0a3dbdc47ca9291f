"""Advice: who follows it gains what it says; the sample that it is computed from is bounded."""

import random
from collections.abc import Sequence as Many
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from retrieval_draft.advice import SEQUENCES_MIN, Advice, Adviser, Progress
from retrieval_draft.config import Config
from retrieval_draft.replay.drafter import EngineDrafter, Setting
from retrieval_draft.replay.play import Trace, play
from retrieval_draft.replay.sequences import Recorded, RecordedFile
from retrieval_draft.step import DraftOptions, Learning, SequenceStart, VerifyCost
from retrieval_draft.tree import int32s
from tests.engine.driving import (
    NAMESPACE,
    SPEC,
    TENANT,
    Caller,
    caller,
    part,
    running_engine,
    state_of,
)

VOCAB = 300
SMALL = 1 << 20
"""Bytes of the learned tier."""
CHEAP = VerifyCost(int32s([0, 64]), np.array([10.0, 12.0], np.float32))
DEAR = VerifyCost(int32s([0, 64]), np.array([10.0, 2000.0], np.float32))


def traffic(seed: int, count: int, *, quoting: bool = False) -> list[Recorded]:
    """Outputs of a hundred phrases in random order; `quoting`: the prompt has what others' outputs say."""
    dice = random.Random(seed)  # noqa: S311 - a test's
    phrases = [[random.Random(i).randrange(VOCAB) for _ in range(9)] for i in range(100)]  # noqa: S311
    made = []
    for _ in range(count):
        said = [token for _ in range(8) for token in dice.choice(phrases)]
        if quoting:
            asked = [token for _ in range(16) for token in dice.choice(phrases)]
        else:
            asked = [dice.randrange(VOCAB) for _ in range(20)]
        noisy = [dice.randrange(VOCAB) if dice.random() < 0.05 else token for token in said]
        made.append(Recorded(int32s(asked), int32s(noisy)))
    return made


def file(sequences: list[Recorded]) -> RecordedFile:
    return RecordedFile("traffic", VOCAB, sequences)


def last(adviser: Adviser) -> Progress:
    *_, end = adviser.advise()
    assert end.done == end.replays
    return end


def of_kind(found: Many[Advice], kind: str) -> Advice:
    (one,) = [advice for advice in found if advice.kind == kind]
    return one


def mat_after(trace: Trace, sequences: int) -> float:
    return float(np.mean(trace.gained[trace.bounds[sequences] :]))


def test_following_the_advice_gains_what_it_says() -> None:
    """Traffic goes on: with the settings of before, and with those advised."""
    before, after = traffic(1, 24), traffic(2, 24)
    now = DraftOptions(nodes_max=4, method="mix", verify_cost=CHEAP)
    with EngineDrafter(file(before), Setting(now, SMALL)) as drafter:
        play(drafter, before)
        advice = of_kind(last(Adviser(drafter.state, drafter.engine.config)).advice, "nodes_max")
    assert advice.unit == "tokens per ms of verification"
    assert advice.gain > 0.05
    advised = int(advice.action.split()[1].rstrip(","))
    assert advised > 4

    def rate(options: DraftOptions) -> float:
        """Of the traffic that follows, tokens per millisecond."""
        with EngineDrafter(file(before), Setting(now, SMALL)) as drafter:
            play(drafter, before)
            drafter.options = options
            trace = play(drafter, after)
        cost = np.interp(trace.nodes, CHEAP.nodes, CHEAP.milliseconds)
        return float(sum(trace.gained) / cost.sum())

    gained = rate(replace(now, nodes_max=advised)) / rate(now) - 1
    print("SAID", advice.gain, "GAINED", gained)
    assert gained == pytest.approx(advice.gain, rel=0.2)


def test_learning_prompts_gains_what_is_said_where_prompts_foretell_outputs() -> None:
    before, after = traffic(3, 24, quoting=True), traffic(4, 24, quoting=True)
    now = DraftOptions(nodes_max=8, method="mix")
    with EngineDrafter(file(before), Setting(now, SMALL)) as drafter:
        play(drafter, before)
        advice = of_kind(
            last(Adviser(drafter.state, drafter.engine.config)).advice, "learn_prompts"
        )
    assert advice.gain > 0.05

    def mat(*, learn_prompts: bool) -> float:
        """As in the replay that advised: the first third only teaches."""
        setting = Setting(now, SMALL, learn_prompts=learn_prompts)
        with EngineDrafter(file(after), setting) as drafter:
            return mat_after(play(drafter, after), len(after) // 3)

    gained = mat(learn_prompts=True) / mat(learn_prompts=False) - 1
    assert gained == pytest.approx(advice.gain, rel=0.2)
    print("SAIDP", advice.gain, "GAINED", gained)


def test_where_verification_is_dear_plain_decoding_is_advised() -> None:
    sequences = traffic(5, 6)
    with EngineDrafter(file(sequences), Setting(DraftOptions(nodes_max=16), SMALL)) as drafter:
        play(drafter, sequences)
        found = last(Adviser(drafter.state, drafter.engine.config, DEAR))
    advice = of_kind(found.advice, "drafting")
    assert found.advice[0] == advice
    assert advice.then == pytest.approx(0.1)
    assert "does not pay" in advice.text


def test_without_a_cost_more_nodes_are_not_called_better() -> None:
    sequences = traffic(6, 6)
    with EngineDrafter(file(sequences), Setting(DraftOptions(nodes_max=4), SMALL)) as drafter:
        play(drafter, sequences)
        found = last(Adviser(drafter.state, drafter.engine.config))
    advice = of_kind(found.advice, "nodes_max")
    assert "whether that pays depends on your verification cost" in advice.text


def test_too_few_sequences_are_said_to_be_too_few() -> None:
    sequences = traffic(7, SEQUENCES_MIN - 1)
    with EngineDrafter(file(sequences), Setting(DraftOptions(), SMALL)) as drafter:
        play(drafter, sequences)
        found = last(Adviser(drafter.state, drafter.engine.config))
    assert [one.kind for one in found.advice] == ["sample"]
    assert "5 finished sequences are kept, 6 are needed" in found.advice[0].text


def test_a_replay_teaches_and_counts_nothing_where_it_is_asked() -> None:
    sequences = traffic(8, SEQUENCES_MIN)
    with EngineDrafter(file(sequences), Setting(DraftOptions(nodes_max=4), SMALL)) as drafter:
        play(drafter, sequences)
        state = drafter.state
        before = state.learned.digest(), state.counters.counts(), len(state.sample.sequences())
        last(Adviser(state, drafter.engine.config))
        after = state.learned.digest(), state.counters.counts(), len(state.sample.sequences())
    assert after == before


def test_the_sample_keeps_the_newest_within_its_bound() -> None:
    with running_engine(Config(sample_tokens=100)) as engine:
        calls = caller(engine)
        for number in range(5):
            text = [number + 1] * 30
            calls.step(part(str(number), 0, text, prompt=10))
            calls.step(part(str(number), 30, [], finished=True))
        kept = state_of(engine).sample.sequences()
    assert [one.output[0] for one in kept] == [3, 4, 5]
    assert [(len(one.prompt), len(one.output)) for one in kept] == [(10, 20)] * 3


def say(calls: Caller, sequence_id: str, token: int, *, finished: bool = True) -> None:
    """A sequence of 30 equal tokens, ten of them a prompt."""
    calls.step(part(sequence_id, 0, [token] * 30, prompt=10))
    if finished:
        calls.step(part(sequence_id, 30, [], finished=True))


def test_all_namespaces_share_one_bound_and_the_oldest_make_way() -> None:
    with running_engine(Config(sample_tokens=100, samples_tokens_max=130)) as engine:
        engine.stores.create(TENANT, msgspec.structs.replace(SPEC, namespace="other"))
        for number in range(3):
            say(caller(engine), "mine", number + 1)
        for number in range(2):
            say(caller(engine, namespace="other"), "others", number + 4)

        def kept() -> list[list[int]]:
            """The first output token of each kept sequence, by namespace."""
            return [
                [int(one.output[0]) for one in state.sample.sequences()]
                for state in engine.stores.states(TENANT)
            ]

        assert kept() == [[2, 3], [4, 5]]
        engine.stores.delete(TENANT, "other")
        say(caller(engine), "mine", 6)
        assert kept() == [[2, 3, 6]], "what is gone takes no room"


def test_a_deleted_namespace_keeps_nothing_of_those_that_finish_later() -> None:
    with running_engine() as engine:
        calls, sample = caller(engine), state_of(engine).sample
        say(calls, "before", 1)
        say(calls, "open", 2, finished=False)
        engine.stores.delete(TENANT, NAMESPACE)
        engine.finish_sequences(TENANT, calls.client_id, ["open"])
        assert sample.sequences() == []


def test_a_sequence_that_was_evicted_or_sent_anew_is_kept_once() -> None:
    """Replays would find in its first half what its second time says."""
    with running_engine() as engine:
        calls = caller(engine)
        for _ in range(2):
            say(calls, "s", 1, finished=False)
        say(calls, "s", 1)
        assert len(state_of(engine).sample.sequences()) == 1


@pytest.mark.parametrize(
    ("learning", "sample_tokens", "output"),
    [(Learning.NONE, 1000, 20), (Learning.OUTPUT, 0, 20), (Learning.OUTPUT, 1000, 7)],
)
def test_what_must_not_be_kept_is_not_kept(
    learning: Learning, sample_tokens: int, output: int
) -> None:
    """Who teaches nothing, anyone where it is off, and what is too short to say anything."""
    with running_engine(Config(sample_tokens=sample_tokens)) as engine:
        calls = caller(engine)
        start = SequenceStart(0, learning=learning)
        calls.step(part("s", 0, [1] * (10 + output), prompt=10, start=start))
        calls.step(part("s", 10 + output, [], finished=True))
        assert state_of(engine).sample.sequences() == []
