"""Replicas share what they learned after a delay, or do not."""

from retrieval_draft.replay.drafter import Setting
from retrieval_draft.replay.replicas import counts, sharing
from retrieval_draft.step import DraftOptions
from tests.replay.texts import file_of, recorded

SETTING = Setting(DraftOptions(nodes_max=16, method="suffix"))


def test_the_points_of_the_curve() -> None:
    assert [counts(n) for n in (1, 2, 5, 8)] == [[1], [1, 2], [1, 2, 4, 5], [1, 2, 4, 8]]


def test_sharing_is_worth_what_the_delay_leaves_of_it() -> None:
    # Two replicas get the same text in turn; alone, each sees it for the first time.
    text = list(range(10, 40))
    file = file_of(recorded([1], text), recorded([2], text))
    at_once, too_late = (sharing(file, SETTING, 2, delay) for delay in (0, 1))
    assert at_once.private_mat == too_late.private_mat == too_late.shared_mat == 1.0
    assert at_once.shared_mat > 1.5
    assert sharing(file, SETTING, 1, 0).private_mat == at_once.shared_mat
