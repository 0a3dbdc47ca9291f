"""Mixing and teaching, against plain Python."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_draft.drafting.kernels import evidence, gathering
from retrieval_draft.drafting.kernels import mixing as kernels
from tests.kernels import twins_evidence, worlds
from tests.kernels import twins_mixing as twins
from tests.kernels.strategies import VOCAB, quick
from tests.kernels.worlds import Both

# Without the JIT the hash overflows as numpy scalars do: with a warning.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")

seeds = st.integers(0, 5)


def gathered(both: Both, data: st.DataObject) -> tuple[evidence.Found, twins_evidence.Evidence]:
    places = data.draw(worlds.places_in(both))
    nodes, found = worlds.empty_nodes(1), worlds.empty_found()
    worlds.write_node(nodes, 0, both.tail(), 0, places)
    gathering.gather(found, both.tiers, nodes, 0, 0.0)
    return found, twins_evidence.gather(both.world, places, both.tail(), 0.0)


def probability(stretch: float) -> float:
    return 1 / (1 + math.exp(-stretch))


@quick(200)
@given(worlds.worlds(), st.data(), seeds)
def test_a_logit_is_the_weighted_sum_of_all_inputs(
    both: Both, data: st.DataObject, seed: int
) -> None:
    found, e = gathered(both, data)
    skill = worlds.skill_of(seed)
    chosen = worlds.empty_chosen()
    kernels.mix(found, skill, chosen)
    assert chosen.sets.tolist() == twins.choose(e)
    assert chosen.weight == pytest.approx(skill.weights[chosen.sets].sum(axis=0), abs=1e-5)
    got = dict(zip(e.listed, found.logit.tolist(), strict=False))
    assert got == pytest.approx(twins.mix(e, twins.Skill(*skill)), abs=1e-5)


@quick(300)
@given(worlds.worlds(), st.data(), seeds, st.integers(0, VOCAB))
def test_weights_follow_the_gradient_and_bins_what_came(
    both: Both, data: st.DataObject, seed: int, came: int
) -> None:
    found, e = gathered(both, data)
    skill = worlds.skill_of(seed)
    if data.draw(st.booleans()):
        skill.weights[:] *= 6  # many a candidate is hopeless, and is not taught
    before, expected = worlds.copied(skill), twins.Skill(*skill)
    kernels.teach(came, found, skill, worlds.empty_chosen())
    twins.teach(came, e, expected)
    assert np.allclose(skill.weights, expected.weights, atol=2e-6)
    assert np.allclose(skill.worth, expected.worth, atol=1e-5)
    changed = (skill.worth != before.worth).any(axis=1)
    assert (skill.stretch[~changed] == before.stretch[~changed]).all()
    for b in np.flatnonzero(changed).tolist():
        p = min(0.999, max(0.001, float(skill.worth[b, 0])))
        assert abs(probability(float(skill.stretch[b])) - p) <= 1 / 4096
    assert kernels.is_listed(found, came) == twins.is_listed(e, came)


def test_teaching_makes_what_came_more_probable_and_everything_else_less() -> None:
    both = Both(*worlds.empty_world(32, 64))
    both.write([1, 2, 3, 1, 2, 4, 1, 2])
    nodes, found, chosen = worlds.empty_nodes(1), worlds.empty_found(), worlds.empty_chosen()
    worlds.write_node(nodes, 0, both.tail(), 0, ([], [], []))
    skill = worlds.skill_of(1)

    def probabilities() -> dict[int, float]:
        gathering.gather(found, both.tiers, nodes, 0, 0.0)
        kernels.mix(found, skill, chosen)
        tokens = list(worlds.read_found(found).listed)
        return {t: kernels.squash(x) for t, x in zip(tokens, found.logit.tolist(), strict=False)}

    before = probabilities()
    for _ in range(50):
        gathering.gather(found, both.tiers, nodes, 0, 0.0)
        kernels.teach(3, found, skill, chosen)
    after = probabilities()
    assert set(after) == {3, 4}
    assert after[3] > before[3]
    assert after[4] < before[4]
    assert after[3] > after[4]


@quick(100)
@given(
    st.lists(st.lists(st.booleans(), min_size=1, max_size=9), min_size=1, max_size=30),
    st.sampled_from([0.0, 100.0, 400.0]),
)
def test_a_bin_is_the_mean_of_what_it_saw_and_forgets_in_the_end(
    parts: list[list[bool]], seen: float
) -> None:
    skill = worlds.skill_of(0)
    skill.worth[0] = 0.5, seen
    expected = twins.Skill(*skill)
    for hits in parts:
        kernels.count_bin(skill, 0, float(sum(hits)), float(len(hits)))
        twins.count_bin(expected, 0, hits)
    assert skill.worth[0] == pytest.approx(expected.worth[0], abs=1e-5)
    assert 0 <= skill.worth[0, 0] <= 1
    assert skill.worth[0, 1] == min(400, seen + sum(map(len, parts)))


def test_the_logistic_function_is_near_the_true_one() -> None:
    for step in range(-1500, 1501):
        x = step / 100 + 0.0013
        assert kernels.squash(x) == pytest.approx(twins.squash(x))
        if abs(x) < 12:
            assert abs(kernels.squash(x) - probability(x)) < 0.001
    assert 0 < kernels.squash(-1e9) < 1e-5
    assert 1 > kernels.squash(1e9) > 1 - 1e-5


@quick(100)
@given(st.lists(st.integers(0, 9), max_size=60), st.integers(2, 8), st.sampled_from([0, 4090]))
def test_common_tokens_are_counted_by_space_saving(came: list[int], kept: int, start: int) -> None:
    common = np.zeros((2, kept + 1), np.int32)
    common[0] = -1
    common[1, kept] = total = start
    expected: list[list[int]] = []
    for token in came:
        kernels.count_common(common, token)
        total = twins.count_common(expected, total, kept, token)
        assert common[1, kept] == total
        size = len(expected)
        assert common[:, :size].T.tolist() == expected
        assert (common[0, size:kept] == -1).all()
    if not start:
        truth = Counter(came)
        assert sum(seen for _, seen in expected) == len(came)
        assert all(seen >= truth[token] for token, seen in expected), "never too low"
        least = expected[-1][1] if len(expected) == kept else 0
        known = [token for token, _ in expected]
        assert all(seen <= least for token, seen in truth.items() if token not in known)
