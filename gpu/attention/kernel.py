"""Tree attention in Triton: every node of a draft tree against its slot's cache, in one pass over it.

Decoding reads each key and value once and computes little, so what counts is that all of the GPU reads: the
context is cut into splits, each keeps an online softmax over its part, and a second kernel puts the parts
together (flash-decoding: Dao et al., 2023). Query heads that share a key head are rows of the same tile, so
that keys are not repeated in memory. Lengths are read on the device: a graph that holds the kernel serves
every context.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol, cast

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.knobs import runtime

from retrieval_draft.gpu.attention.tree_view import TreeView

ROWS_BLOCK_MIN, ROWS_BLOCK_MAX = 16, 64
KEYS_BLOCK = 64
JOINED_ROWS = 16
SPLITS_MAX = 64
STAGES = 2
"""With these blocks 16-bit heads of 64 and 128 do not spill, in 99 KiB of shared memory: 8.0, 8.9 and 9.0."""
LOG2_E = math.log2(math.e)
MULTIPROCESSORS_UNKNOWN = 8
"""Where there is no GPU: the interpreter."""


class Kernel(Protocol):
    """What becomes of a function by `jit`: called with a grid, and its arguments."""

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]: ...


def jit(*as_they_come: str) -> Callable[[Callable[..., None]], Kernel]:
    """Triton's, which compiles anew for an integer that is 1, and for what is a multiple of 16 or not.

    Not for these arguments: what differs from bucket to bucket would be compiled while serving.
    """
    decorator = triton.jit(
        do_not_specialize=as_they_come, do_not_specialize_on_alignment=as_they_come
    )
    return cast(Callable[[Callable[..., None]], Kernel], decorator)


class Blocks(NamedTuple):
    """Of one program: rows, keys a round, and the columns of both, a power of two."""

    rows: int
    keys: int
    width: int


@jit("nodes", "splits", "positions", "sees", "horizons")
def attend_split(
    query: tl.tensor,
    keys: tl.tensor,
    values: tl.tensor,
    positions: tl.tensor,
    sees: tl.tensor,
    horizons: tl.tensor,
    part: tl.tensor,
    part_scale: tl.tensor,
    query_batch: tl.tensor,
    query_head: tl.tensor,
    query_node: tl.tensor,
    key_batch: tl.tensor,
    key_head: tl.tensor,
    key_entry: tl.tensor,
    value_batch: tl.tensor,
    value_head: tl.tensor,
    value_entry: tl.tensor,
    nodes: tl.tensor,
    width: tl.tensor,
    splits: tl.tensor,
    scale: tl.tensor,
    KEY_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    WIDTH: tl.constexpr,
    WIDENED: tl.constexpr,
) -> None:
    """One tile of rows (node x query head) against one split of a slot's entries.

    part [B, query heads, n, splits, width] gets the weighted values, divided by their weight;
    part_scale [B, query heads, n, splits] the logarithm (base 2) of that weight, -inf for none.
    """
    tile, split = tl.program_id(0), tl.program_id(2)
    batch, key_head_id = tl.program_id(1) // KEY_HEADS, tl.program_id(1) % KEY_HEADS
    row = tile * ROWS + tl.arange(0, ROWS)
    is_row = row < nodes * GROUP
    node, head = row % nodes, key_head_id * GROUP + row // nodes
    column = tl.arange(0, WIDTH)
    is_column = column < width
    at = positions + batch * nodes
    cached = tl.load(at).to(tl.int32)
    word = tl.load(sees + batch * nodes + node, mask=is_row, other=0)
    horizon = tl.load(horizons + batch * nodes + node, mask=is_row, other=0).to(tl.int32)
    start = query + batch.to(tl.int64) * query_batch + head * query_head + node * query_node
    wanted = tl.load(
        start[:, None] + column[None, :], mask=is_row[:, None] & is_column[None, :], other=0.0
    )
    if WIDENED:
        wanted = wanted.to(tl.float32)

    end = cached + nodes
    # No node stands before the root, so none sees what lies before the root's horizon.
    first = tl.maximum(tl.load(horizons + batch * nodes).to(tl.int32), 0) // KEYS * KEYS
    length = tl.cdiv(tl.cdiv(end - first, splits), KEYS) * KEYS
    begin = first + split * length
    end = tl.minimum(begin + length, end)

    best = tl.full([ROWS], float("-inf"), tl.float32)
    weight = tl.zeros([ROWS], tl.float32)
    sums = tl.zeros([ROWS, WIDTH], tl.float32)
    key_start = keys + batch.to(tl.int64) * key_batch + key_head_id * key_head
    value_start = values + batch.to(tl.int64) * value_batch + key_head_id * value_head
    for block in range(begin, end, KEYS):
        entry = block + tl.arange(0, KEYS)
        is_entry = entry < end
        inside = is_entry[:, None] & is_column[None, :]
        key = tl.load(
            key_start + entry[:, None] * key_entry + column[None, :], mask=inside, other=0.0
        ).to(wanted.dtype)
        score = tl.dot(wanted, tl.trans(key), input_precision="ieee") * scale
        other = entry - cached
        bit = tl.minimum(tl.maximum(other - 1, 0), 63)
        is_seen = (other[None, :] <= 0) | ((word[:, None] >> bit[None, :]) & 1 != 0)
        stands = tl.load(at + other, mask=is_entry & (other >= 0), other=0).to(tl.int32)
        stands = tl.where(other >= 0, stands, entry)
        is_seen &= stands[None, :] >= horizon[:, None]
        score = tl.where(is_seen & is_entry[None, :], score, float("-inf"))
        above = tl.maximum(best, tl.max(score, 1))
        # A row that has seen nothing yet: -inf minus -inf would be no number.
        level = tl.where(above == float("-inf"), 0.0, above)
        chance = tl.exp2(score - level[:, None])
        fade = tl.exp2(best - level)
        value = tl.load(
            value_start + entry[:, None] * value_entry + column[None, :], mask=inside, other=0.0
        ).to(wanted.dtype)
        weight = weight * fade + tl.sum(chance, 1)
        sums = sums * fade[:, None] + tl.dot(chance.to(wanted.dtype), value, input_precision="ieee")
        best = above

    # Without weight `best` is -inf, and so is its sum with log2(1).
    weight = tl.where(weight > 0, weight, 1.0)
    out = ((batch * KEY_HEADS * GROUP + head) * nodes + node).to(tl.int64) * splits + split
    tl.store(part_scale + out, best + tl.log2(weight), mask=is_row)
    tl.store(
        part + out[:, None] * width + column[None, :],
        sums / weight[:, None],
        mask=is_row[:, None] & is_column[None, :],
    )


@jit("rows", "nodes", "splits")
def join_splits(
    part: tl.tensor,
    part_scale: tl.tensor,
    output: tl.tensor,
    rows: tl.tensor,
    nodes: tl.tensor,
    width: tl.tensor,
    splits: tl.tensor,
    HEADS: tl.constexpr,
    SPLITS: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
) -> None:
    """output [B, n, query heads, width]: every split's values by the weight that it has among all."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)  # of B x query heads x n
    is_row = row < rows
    column = tl.arange(0, WIDTH)
    inside = is_row[:, None] & (column < width)[None, :]
    split = tl.arange(0, SPLITS)
    is_split = is_row[:, None] & (split < splits)[None, :]
    at = part_scale + row * splits
    scale = tl.load(at[:, None] + split[None, :], mask=is_split, other=float("-inf"))
    best = tl.max(scale, 1)
    best = tl.where(best == float("-inf"), 0.0, best)  # rows beyond the last
    weight = tl.zeros([ROWS], tl.float32)
    sums = tl.zeros([ROWS, WIDTH], tl.float32)
    for one in range(splits):
        share = tl.exp2(tl.load(at + one, mask=is_row, other=0.0) - best)
        offset = (row * splits + one)[:, None] * width + column[None, :]
        sums += tl.load(part + offset, mask=inside, other=0.0) * share[:, None]
        weight += share
    node, head, batch = row % nodes, row // nodes % HEADS, row // nodes // HEADS
    out = output + ((batch * nodes + node) * HEADS + head) * width
    sums = sums / weight[:, None]
    tl.store(out[:, None] + column[None, :], sums, mask=inside)


def tree_attention(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    tree: TreeView,
    scale: float,
    *,
    splits: int | None = None,
) -> Tensor:
    """[B, n, query heads, width] of `query` [B, query heads, n, width] against a slot cache.

    `keys`, `values` [>= B, key heads, >= P + n entries, width], the last dimension dense; float32, float16
    or bfloat16 like the query, sums are float32. `splits` are SPLITS_MAX at most. Two launches; nothing is
    read back.
    """
    batch, heads, nodes, width = query.shape
    key_heads = keys.shape[1]
    group = heads // key_heads
    blocks = blocks_for(nodes * group, width, query.dtype)
    tiles = -(-nodes * group // blocks.rows)
    if splits is None:
        splits = splits_for(query.device, batch * key_heads * tiles, keys.shape[2])
    parts = (batch, heads, nodes, splits)
    part = torch.empty((*parts, width), dtype=torch.float32, device=query.device)
    part_scale = torch.empty(parts, dtype=torch.float32, device=query.device)
    output = torch.empty((batch, nodes, heads, width), dtype=query.dtype, device=query.device)
    attend_split[(tiles, batch * key_heads, splits)](
        query,
        keys,
        values,
        tree.positions,
        tree.sees,
        tree.horizons,
        part,
        part_scale,
        *query.stride()[:3],
        *keys.stride()[:3],
        *values.stride()[:3],
        nodes,
        width,
        splits,
        scale * LOG2_E,
        KEY_HEADS=key_heads,
        GROUP=group,
        ROWS=blocks.rows,
        KEYS=blocks.keys,
        WIDTH=blocks.width,
        WIDENED=is_interpreted(),
        num_stages=STAGES,
        enable_fp_fusion=True,
    )
    join_splits[(-(-batch * heads * nodes // JOINED_ROWS),)](
        part,
        part_scale,
        output,
        batch * heads * nodes,
        nodes,
        width,
        splits,
        HEADS=heads,
        SPLITS=SPLITS_MAX,
        ROWS=JOINED_ROWS,
        WIDTH=blocks.width,
        enable_fp_fusion=True,
    )
    return output


def blocks_for(rows: int, width: int, dtype: torch.dtype) -> Blocks:
    """For so many rows (nodes x query heads of a key head) of so wide heads."""
    padded = max(16, _power_of_2(width))
    # Tensor cores do not multiply float32, so it is the registers that hold it.
    is_float32 = dtype == torch.float32
    rows_max = ROWS_BLOCK_MIN if is_float32 else ROWS_BLOCK_MAX
    keys = KEYS_BLOCK // 2 if is_float32 or padded > 128 else KEYS_BLOCK
    return Blocks(min(rows_max, max(ROWS_BLOCK_MIN, _power_of_2(rows))), keys, padded)


def _power_of_2(least: int) -> int:
    return 1 << (least - 1).bit_length()


def splits_for(device: torch.device, programs: int, entries_max: int) -> int:
    """So many that all programs fill the GPU twice, and none has less than a block to read."""
    multiprocessors = MULTIPROCESSORS_UNKNOWN
    if device.type == "cuda":
        multiprocessors = torch.cuda.get_device_properties(device).multi_processor_count
    wanted = -(-2 * multiprocessors // programs)
    return max(1, min(wanted, SPLITS_MAX, -(-entries_max // KEYS_BLOCK)))


def is_interpreted() -> bool:
    """Whether Triton's interpreter runs the kernels, which cannot multiply bfloat16."""
    return bool(runtime.interpret)
