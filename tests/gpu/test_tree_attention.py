"""Tree attention by all three ways, against a softmax written out; without a GPU Triton interprets."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from retrieval_draft.gpu.attention.flex import block_mask, flex_tree_attention
from retrieval_draft.gpu.attention.tree_view import NODES_MAX, TreeView
from retrieval_draft.gpu.static_steps import OWN_BITS, ancestors
from retrieval_draft.tree import DraftTree, int32s

triton = pytest.importorskip("triton")
from retrieval_draft.gpu.attention import kernel  # noqa: E402

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TOLERANCES = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}


@dataclass(frozen=True, slots=True)
class Case:
    """A ragged batch: cached tokens of each sequence, and its tree; the cache has noise everywhere."""

    cached: Sequence[int]
    parents: Sequence[Sequence[int]]
    window: int | None = None
    heads: int = 4
    key_heads: int = 2
    width: int = 16
    dtype: torch.dtype = torch.float32
    seed: int = 0

    @property
    def nodes(self) -> int:
        return 1 + max(len(parents) for parents in self.parents)

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Query, keys and values; there are more slots and entries than in use."""
        generator = torch.Generator().manual_seed(self.seed)
        entries = max(self.cached) + self.nodes + 5
        shapes = (
            (len(self.cached), self.heads, self.nodes, self.width),
            (len(self.cached) + 1, self.key_heads, entries, self.width),
            (len(self.cached) + 1, self.key_heads, entries, self.width),
        )
        query, keys, values = (torch.randn(shape, generator=generator) for shape in shapes)
        # Scores far apart: what is rescaled wrongly shows.
        made = (3 * query, keys, values)
        query, keys, values = (one.to(DEVICE, self.dtype) for one in made)
        return query, keys, values

    def view(self) -> TreeView:
        batch, n = len(self.cached), self.nodes
        positions = np.tile(np.array(self.cached, np.int64)[:, None], (1, n))
        sees = np.tile(OWN_BITS[:n], (batch, 1))
        for b, parents in enumerate(self.parents):
            m = len(parents)
            words, depths = ancestors(DraftTree(int32s([0] * m), int32s(parents)))
            sees[b, 1 : m + 1] = words
            positions[b, 1 : m + 1] += depths
        horizons = positions - self.window + 1 if self.window else np.zeros_like(positions)
        found = (torch.from_numpy(one).to(DEVICE) for one in (positions, sees, horizons))
        return TreeView(*found)

    def expected(self) -> Tensor:
        """[B, n, heads, width], row by row: which keys a node sees is told by walking up its path."""
        query, keys, values = (one.double() for one in self.tensors())
        out = torch.zeros(
            (len(self.cached), self.nodes, self.heads, self.width), dtype=torch.float64
        )
        group = self.heads // self.key_heads
        for b, (cached, parents) in enumerate(zip(self.cached, self.parents, strict=True)):
            for row in range(len(parents) + 1):
                path = [row]
                while path[-1] > 0:
                    path.append(parents[path[-1] - 1] + 1)
                depth = len(path) - 1
                first = 0 if self.window is None else max(0, cached + depth - self.window + 1)
                above = [
                    cached + node
                    for up, node in enumerate(path)
                    if self.window is None or up < self.window
                ]
                entries = [*range(first, cached), *above]
                for head in range(self.heads):
                    seen = keys[b, head // group, entries]
                    chance = (seen @ query[b, head, row] * self.width**-0.5).softmax(0)
                    out[b, row, head] = chance @ values[b, head // group, entries]
        return out

    def check(self, found: Tensor) -> None:
        """Of rows that are no filler."""
        expected = self.expected()
        assert found.shape == expected.shape
        assert found.dtype == self.dtype
        for b, parents in enumerate(self.parents):
            rows = slice(0, len(parents) + 1)
            off = (found[b, rows].double().cpu() - expected[b, rows]).abs().max()
            assert off <= TOLERANCES[self.dtype] * (1 + expected.abs().max())
        assert found.isfinite().all()

    def by_kernel(self, splits: int | None = None) -> Tensor:
        scale = self.width**-0.5
        return kernel.tree_attention(*self.tensors(), self.view(), scale, splits=splits)

    def by_sdpa(self) -> Tensor:
        query, keys, values = self.tensors()
        batch, group = len(self.cached), self.heads // self.key_heads
        mask = self.view().additive(torch.arange(keys.shape[2], device=DEVICE), self.dtype)
        keys, values = (one[:batch].repeat_interleave(group, 1) for one in (keys, values))
        attend = torch.nn.functional.scaled_dot_product_attention
        return attend(query, keys, values, mask).transpose(1, 2)

    def by_flex(self) -> Tensor:
        query, keys, values = self.tensors()
        mask = block_mask(self.view(), keys.shape[2])
        return flex_tree_attention(query, keys, values, mask, self.width**-0.5)


CHAIN, BUSH = (-1, 0, 1, 2, 3, 4), (-1, -1, 0, 0, 1, 1, 2, 5)
LATE_CHAIN = (-1, -1, -1, 2, 3, 4, 5)  # nodes do not stand at the entries of their positions
CASES = {
    "one row": Case((70,), ((),)),
    "nothing cached": Case((0, 1), (BUSH, ())),
    "ragged": Case((3, 130, 40), (CHAIN, BUSH, ()), key_heads=1),
    "block edges": Case((63, 64, 65), ((-1,), (-1, -1), (-1, 0)), key_heads=4),
    "nodes across an edge": Case((28, 60), (BUSH, CHAIN), heads=6, key_heads=2),
    "window": Case((50, 9), (BUSH, CHAIN), window=8),
    "window within the tree": Case((50, 2), (CHAIN, LATE_CHAIN), window=3),
    "window of one": Case((5,), (CHAIN,), window=1),
    "odd width": Case((20, 4), (BUSH, CHAIN), width=24),
    "float16": Case((70, 4), (BUSH, CHAIN), width=64, dtype=torch.float16),
    "bfloat16": Case((70, 4), (BUSH, CHAIN), width=64, dtype=torch.bfloat16),
}


@pytest.mark.parametrize(
    ("name", "splits"), [*((name, 3) for name in CASES), ("ragged", 1), ("window", 1)]
)
def test_the_kernel_sees_what_a_path_sees(name: str, splits: int) -> None:
    CASES[name].check(CASES[name].by_kernel(splits))


@pytest.mark.parametrize("name", CASES)
def test_the_mask_for_sdpa_shows_the_same(name: str) -> None:
    CASES[name].check(CASES[name].by_sdpa())


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("name", ["ragged", "nodes across an edge", "window", "one row"])
def test_flex_attention_shows_the_same(name: str) -> None:
    CASES[name].check(CASES[name].by_flex())


def test_the_blocks_of_flex_attention_hold_all_that_is_seen() -> None:
    """Torch's reference looks at the mask alone; compiled, what lies in no block is not seen."""
    case = Case((700, 10, 255), (BUSH, CHAIN, ()), window=200)
    for view in (case.view(), replace(case, window=None).view()):
        shown = view.additive(torch.arange(1000, device=DEVICE), torch.float32)[:, 0] == 0
        blocks = block_mask(view, 1000).to_dense()[:, 0, 0]
        for b in range(3):
            needed = {int(entry) // 128 for entry in shown[b].any(0).nonzero()}
            assert set(blocks[b].nonzero()[:, 0].tolist()) == needed


def test_the_last_bit_of_a_word_is_a_node_like_any() -> None:
    chain = Case((3,), (tuple(range(-1, NODES_MAX - 1)),), heads=1, key_heads=1)
    chain.check(chain.by_sdpa())
    chain.check(chain.by_kernel())
    star = Case((3,), ((-1,) * NODES_MAX,), heads=1, key_heads=1)
    star.check(star.by_kernel())


@st.composite
def cases(draw: st.DrawFn) -> Case:
    batch = draw(st.integers(1, 3))
    parents = [
        [draw(st.integers(-1, i - 1)) for i in range(draw(st.integers(0, 9)))] for _ in range(batch)
    ]
    key_heads = draw(st.sampled_from((1, 2)))
    return Case(
        tuple(draw(st.integers(0, 70)) for _ in range(batch)),
        parents,
        draw(st.one_of(st.none(), st.integers(1, 40))),
        key_heads * draw(st.sampled_from((1, 2, 3))),
        key_heads,
        seed=draw(st.integers(0, 99)),
    )


@settings(max_examples=10, deadline=None, derandomize=True)
@given(cases(), st.integers(1, 4))
def test_any_batch_of_trees(case: Case, splits: int) -> None:
    case.check(case.by_kernel(splits))
    case.check(case.by_sdpa())


COMPILED = """
import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction
from retrieval_draft.gpu.attention import kernel
from retrieval_draft.gpu.attention.tree_view import TreeView

class Absent:  # what a launch asks of a driver before it launches
    def __init__(self, capability): self.capability = capability
    def get_current_target(self): return GPUTarget("cuda", self.capability, 32)
    def get_current_device(self): return self.capability
    def get_current_stream(self, device=None): return 0

run = JITFunction.run
def compiled(self, *arguments, grid, warmup, **options):
    done = run(self, *arguments, grid=grid, warmup=True, **options)
    made[self.fn.__name__, done.hash] = done
JITFunction.run = compiled

for capability in (80, 90):
    driver.set_active(Absent(capability))
    made = {}
    for batch, splits in ((1, 33), (3, 16), (32, 1)):
        store = torch.empty((batch, 8, 99, 128), dtype=torch.bfloat16)
        for n in (1, 2, 5, 16, 17):
            query = torch.empty((batch, n, 32, 128), dtype=torch.bfloat16).transpose(1, 2)
            tree = TreeView(*torch.empty((3, batch, n), dtype=torch.int64))
            kernel.tree_attention(query, store, store, tree, 0.1, splits=splits)
    for (name, _), done in sorted(made.items()):
        print(capability, name, done.metadata.shared, len(done.asm["cubin"]))
"""


def test_few_kernels_are_compiled_for_a_gpu_that_is_not_here(tmp_path: Path) -> None:
    """The interpreter takes what the compiler refuses; and their shared memory must fit small GPUs too.

    As tree_attention calls them, all but the launch. What is compiled while serving halts everyone: no
    more than tiles of 16, 32 and 64 rows, whatever the bucket.
    """
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", COMPILED],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**environment, "TRITON_CACHE_DIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    names = ["attend_split"] * 3 + ["join_splits"]
    assert [line[:2] for line in lines] == [[c, name] for c in ("80", "90") for name in names]
    assert all(int(shared) <= 99 << 10 and int(size) > 0 for _, _, shared, size in lines)
