"""Static trees: their files, what they refuse, and the order that best-first gives them."""

from collections import Counter
from pathlib import Path

import pytest

from retrieval_draft.drafting.templates import WIDE_DEPTH, WIDE_NODES, Template
from retrieval_draft.errors import InvalidInput


def test_best_first_takes_the_most_probable_nodes_in_order() -> None:
    # 0.5 (root's first), 0.4 (second), 0.25 (first's first), 0.2 (first's second), 0.2 (second's first).
    tree = Template.best_first(5, 2, (0.5, 0.4))
    assert tree == Template((-1, -1, 0, 0, 1), (0, 1, 0, 1, 0))
    assert tree.depths == (1, 1, 2, 2, 2)


def test_levels_that_are_full_end_the_tree() -> None:
    assert len(Template.best_first(100, 2, (0.5, 0.4))) == 6


def test_the_wide_tree_has_625_nodes_down_to_depth_20_and_fewer_of_every_further_rank() -> None:
    wide = Template.wide()
    assert len(wide) == WIDE_NODES == 625
    assert max(wide.depths) == WIDE_DEPTH == 20
    ranks = [Counter(wide.ranks)[rank] for rank in range(10)]
    assert ranks == sorted(ranks, reverse=True)


def test_a_tree_comes_back_from_its_file(tmp_path: Path) -> None:
    wide = Template.wide()
    wide.write(tmp_path / "wide.json")
    assert Template.read(tmp_path / "wide.json") == wide


def test_the_shipped_tree_has_80_nodes() -> None:
    shipped = Template.shipped()
    assert len(shipped) == 80
    assert shipped.parent_array.tolist() == list(shipped.parents)
    assert shipped.rank_array.tolist() == list(shipped.ranks)
    assert max(shipped.ranks) < 10
    assert 10 <= max(shipped.depths) <= WIDE_DEPTH


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"parents": [-1]}',
        '{"parents": [0], "ranks": [0]}',
        '{"parents": [-2], "ranks": [0]}',
        '{"parents": [-1, -1], "ranks": [0, 0]}',
        '{"parents": [-1], "ranks": [-1]}',
        '{"parents": [-1], "ranks": [0, 1]}',
        '{"parents": [-1], "ranks": [true]}',
        '{"parents": [], "ranks": []}',
    ],
)
def test_what_is_no_tree_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tree.json"
    path.write_text(text)
    with pytest.raises(InvalidInput, match="template"):
        Template.read(path)
