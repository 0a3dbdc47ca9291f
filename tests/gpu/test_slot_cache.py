"""Slots: what is written where, compaction, and sequences that move."""

import torch

from retrieval_draft.gpu.slot_cache import LayerShape, Move, SlotCache

SHAPES = [LayerShape(2, 4, 4), LayerShape(2, 4, 3), LayerShape(1, 6, 6)]
SLOTS, LENGTH = 3, 16


def cache() -> SlotCache:
    return SlotCache(SHAPES, SLOTS, LENGTH, torch.float32, torch.device("cpu"))


def states(
    batch: int, n: int, shape: LayerShape, start: float
) -> tuple[torch.Tensor, torch.Tensor]:
    def numbered(width: int) -> torch.Tensor:
        size = batch * shape.heads * n * width
        return torch.arange(start, start + size, dtype=torch.float32).view(
            batch, shape.heads, n, width
        )

    return numbered(shape.key_width), -numbered(shape.value_width)


def test_one_slot_is_appended_to_and_seen_from_its_start() -> None:
    slots = cache()
    for layer, shape in enumerate(SHAPES):
        slots.aim_one(1, 0, 4)
        first = states(1, 4, shape, 100)
        slots.update(*first, layer)
        slots.aim_one(1, 4, 2)
        second = states(1, 2, shape, 900)
        keys, values = slots.update(*second, layer)
        assert torch.equal(keys, torch.cat([first[0], second[0]], 2))
        assert torch.equal(values, torch.cat([first[1], second[1]], 2))
        assert slots.get_seq_length() == 4
        slots.aim_one(0, 0, LENGTH)
        untouched = slots.slot_layers[layer].keys
        assert untouched is not None
        assert not untouched.any()


def test_ragged_slots_are_written_behind_their_own_lengths() -> None:
    slots = cache()
    cached = torch.tensor([5, 0, 9])
    slots.aim_many(3, cached, 2, 11)
    for layer, shape in enumerate(SHAPES):
        new_keys, new_values = states(3, 2, shape, 1)
        keys, values = slots.update(new_keys, new_values, layer)
        assert keys.shape == (3, shape.heads, 11, shape.key_width)
        assert values.shape == (3, shape.heads, 11, shape.value_width)
        for row, length in enumerate(cached.tolist()):
            assert torch.equal(keys[row, :, length : length + 2], new_keys[row])
            assert torch.equal(values[row, :, length : length + 2], new_values[row])
            assert not keys[row, :, :length].any()


def test_compaction_moves_the_accepted_entries_and_no_others() -> None:
    for moves in ([Move(0, [7, 8, 11], 6)], [Move(0, [7, 8, 11], 6), Move(2, [5], 3)]):
        slots = cache()
        before: list[tuple[torch.Tensor, torch.Tensor]] = []
        for layer, shape in enumerate(SHAPES):
            slots.aim_many(3, torch.zeros(3, dtype=torch.long), LENGTH, LENGTH)
            keys, values = slots.update(*states(3, LENGTH, shape, 1), layer)
            before.append((keys.clone(), values.clone()))
        slots.keep(moves)
        slots.aim_many(3, torch.zeros(3, dtype=torch.long), LENGTH, LENGTH)
        for layer, (keys, values) in enumerate(before):
            for move in moves:
                for i, source in enumerate(move.sources):
                    for old in (keys, values):
                        target = move.target + i
                        old[move.slot, :, target] = old.clone()[move.slot, :, source]
            # The plain loop above is right as sources ascend and stand behind their targets.
            assert torch.equal(slots.slot_layers[layer].keys, keys)  # type: ignore[arg-type]
            assert torch.equal(slots.slot_layers[layer].values, values)  # type: ignore[arg-type]


def test_a_sequence_moves_to_another_slot() -> None:
    slots = cache()
    for layer, shape in enumerate(SHAPES):
        slots.aim_one(2, 0, 6)
        keys, _ = slots.update(*states(1, 6, shape, 1), layer)
        expected = keys.clone()
        slots.copy_slot(2, 0, 6)
        slots.aim_one(0, 0, 6)
        assert torch.equal(slots.slot_layers[layer].keys, expected)  # type: ignore[arg-type]
