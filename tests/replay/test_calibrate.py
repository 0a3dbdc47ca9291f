"""A prior holds what was learned in the replay, and can be read back."""

from pathlib import Path

import numpy as np

from retrieval_draft.drafting.mix import Mix
from retrieval_draft.replay.calibrate import calibrate
from retrieval_draft.step import TreeShape
from tests.replay.texts import repetitive


def test_a_prior_is_what_mix_has_learned(tmp_path: Path) -> None:
    files = [repetitive(6, 3), repetitive(7, 2)]
    calls: list[int] = []
    prior = calibrate(files, (4, 16), (TreeShape.TREE, TreeShape.CHAIN), lambda: calls.append(1))
    assert len(calls) == 5
    assert prior.figures.tokens == sum(len(s.output) - 1 for f in files for s in f.sequences)
    fresh = Mix().state()
    assert prior.arrays.keys() == fresh.keys()
    assert any(not np.array_equal(prior.arrays[name], fresh[name]) for name in fresh)
    prior.write(tmp_path / "prior.npz")
    with np.load(tmp_path / "prior.npz") as read:
        assert set(read.files) == prior.arrays.keys()
        for name, array in prior.arrays.items():
            np.testing.assert_array_equal(read[name], array)
