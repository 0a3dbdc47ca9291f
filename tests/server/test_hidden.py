"""Hidden states on the wire: as they were sent, or not at all."""

from dataclasses import replace

import numpy as np
import pytest

from retrieval_draft.checks import check_ids
from retrieval_draft.config import HIDDEN_WIDTH_MAX, Config
from retrieval_draft.errors import InvalidInput
from retrieval_draft.server.draft_service import DraftService
from retrieval_draft.step import Rows, SequenceStep, StepRequest
from retrieval_draft.unsent import along_tokens, joined
from retrieval_draft.v1 import draft_pb2
from retrieval_draft.wire import decode_request, encode_request
from tests.engine.driving import NAMESPACE, part, rows, running_engine


def seen(at: list[int], width: int, seed: int = 0) -> Rows:
    states = np.random.default_rng(seed).normal(size=(len(at), width)).astype(np.float16)
    return replace(rows(at, [[1, 2]] * len(at)), hidden=states)


def arrived(*parts: SequenceStep) -> list[Rows | None]:
    message = encode_request(StepRequest(1, NAMESPACE, "c", list(parts)))
    raw = draft_pb2.DraftRequest.FromString(message.SerializeToString())
    return [one.rows for one in decode_request(raw).sequences]


def test_states_arrive_as_they_were_sent_each_with_its_row() -> None:
    one, two = seen([3, -1, 4], 5), seen([0], 5, seed=1)
    got = arrived(part("s", 0, [1], rows=one), part("t", 0, [1]), part("u", 0, [1], rows=two))
    assert got[1] is None
    for sent, there in ((one, got[0]), (two, got[2])):
        assert there is not None
        assert there.at.tolist() == sent.at.tolist()
        np.testing.assert_array_equal(there.hidden, sent.hidden)


@pytest.mark.parametrize("other", [rows([0], [[1, 2]]), seen([0], 4)])
def test_where_some_have_none_or_another_width_no_states_are_sent(other: Rows) -> None:
    got = arrived(part("s", 0, [1], rows=seen([3], 5)), part("t", 0, [1], rows=other))
    assert [one is not None and one.hidden is None for one in got] == [True, True]


def test_rows_of_several_commits_keep_their_states() -> None:
    one, two = seen([3, -1], 5), seen([4], 5, seed=1)
    both = joined([along_tokens(one), two])
    assert both is not None
    assert both.at.tolist() == [3, 4]
    assert one.hidden is not None
    assert two.hidden is not None
    np.testing.assert_array_equal(both.hidden, np.stack([one.hidden[0], two.hidden[0]]))
    without = joined([one, rows([4], [[1, 2]])])
    assert without is not None
    assert without.hidden is None


def test_states_that_are_too_wide_are_refused_by_name() -> None:
    wide = replace(rows([0], [[1, 2]]), hidden=np.zeros((1, HIDDEN_WIDTH_MAX + 1), np.float16))
    with pytest.raises(InvalidInput, match=r"observations\.hidden_width is 16385"):
        check_ids(part("s", 0, [1], rows=wide), 100, Config())


@pytest.mark.parametrize(("dense", "width"), [("off", 0), ("tokens", 0), ("hidden", 16384)])
def test_the_server_asks_for_states_only_where_it_uses_them(dense: str, width: int) -> None:
    with running_engine(Config(dense=dense)) as engine:
        info = DraftService(engine)._info(draft_pb2.GetServerInfoRequest(), "local")
        assert info.hidden_width == width
