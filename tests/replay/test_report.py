"""The report is one page that needs nothing else, and plots what the tables say."""

import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_draft.replay.plot import Panel, Point, Series, at_values, linear, panel_svg
from retrieval_draft.replay.report import page
from retrieval_draft.replay.run import Plan, Replay, replay
from retrieval_draft.replay.sequences import RecordedFile
from retrieval_draft.step import TreeShape
from tests.replay.texts import repetitive

VOID = {"meta", "br"}


class Tags(HTMLParser):
    """Fails on tags that do not close in order; keeps what would be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.counts: dict[str, int] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.fetched += [
            f"{tag} {name}" for name, _ in attrs if name in ("src", "href", "xlink:href")
        ]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def done() -> Replay:
    first = repetitive(3, 4)
    second = RecordedFile("<b>other</b>", first.vocab_size, repetitive(4, 3).sequences)
    plan = Plan(("mix", "lookup"), (4, 16), TreeShape.TREE, is_goodput=True, replicas=2, delay=1)
    calls = []
    done = replay([first, second], plan, lambda: calls.append(1))
    assert len(calls) == plan.passes() * (4 + 3)
    return done


def test_the_page_is_self_contained_and_well_formed(done: Replay) -> None:
    text = page(done)
    tags = Tags()
    tags.feed(text)
    assert not tags.open
    assert not tags.fetched
    assert "http" not in text
    assert "url(" not in text
    assert "prefers-color-scheme:dark" in text
    assert "<b>other" not in text
    assert "&lt;b&gt;other" in text
    # Tokens 3, reliability 2, depth 2, origins 2, agreement 1, goodput 3, sharing 3, time 1, legends.
    assert len(re.findall('role="img"', text)) == 17
    assert not re.search(r"\b(nan|inf)\b", text)


def test_every_number_is_in_the_page(done: Replay) -> None:
    text = page(done)
    for run in done.runs:
        assert f">{run.figures.mat:.3f}<" in text
    for one in done.goodput:
        assert f">{one.ratio:.3f}<" in text
    for share in done.sharing:
        assert f">{share.private_mat:.3f}<" in text


def test_the_best_are_the_best(done: Replay) -> None:
    for best in done.best:
        if best.price is None:
            same = [r for r in done.runs if (r.file, r.nodes_max) == (best.file, best.nodes_max)]
            assert best.mat == max(run.figures.mat for run in same)
        else:
            at = [g for g in done.goodput if (g.file, g.price) == (best.file, best.price)]
            assert best.goodput == max(max(g.goodput, *g.fixed.values()) for g in at)


def test_goodput_is_tokens_over_cost(done: Replay) -> None:
    for one in done.goodput:
        assert one.fixed[0] == 1.0
        assert one.ratio == pytest.approx(one.goodput / max(one.fixed.values()))
    runs = {(r.file, r.method, r.nodes_max): r.figures for r in done.runs}
    assert all(nodes in (4, 16) for _, _, nodes in runs)
    at_16 = runs["by hand", "mix", 16]
    row = next(g for g in done.goodput if (g.file, g.method, g.price) == ("by hand", "mix", 0.1))
    assert row.fixed[16] == pytest.approx(at_16.mat / (1 + 0.1 * at_16.nodes))


@given(st.floats(0, 100), st.floats(0.01, 1000))
def test_linear_ticks_enclose_the_data_evenly(low: float, span: float) -> None:
    scale = linear(low, low + span)
    values = [value for value, _ in scale.ticks]
    assert scale.low <= low + 1e-3 * span
    assert scale.high >= low + span - 1e-3 * span
    assert 2 <= len(values) <= 9
    steps = {round((b - a) / span, 6) for a, b in pairwise(values)}
    assert max(steps) - min(steps) < 1e-3


def test_a_panel_draws_its_points_within_its_axes() -> None:
    points = [Point(8, 1.5, "a"), Point(64, 2.5, "b")]
    panel = Panel("t", "x", "y", at_values([8, 64]), linear(1.0, 3.0), [Series("s", 0, points)])
    svg = panel_svg(panel)
    assert re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', svg) == [("54.0", "161.0"), ("326.0", "71.0")]
