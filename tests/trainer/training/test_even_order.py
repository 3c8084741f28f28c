"""Several processes read every row once, in the order of one process."""

from __future__ import annotations

import torch
from accelerate.data_loader import BatchSamplerShard, SeedableRandomSampler
from torch.utils.data import BatchSampler

from trainer.training.together.even_order import FILLER, EvenOrder, FilledRows, collate_filled


def test_each_row_is_in_one_pass_of_one_process_and_steps_have_the_rows_of_one_process() -> None:
    rows = [*range(23)]
    for processes, micro in ((2, 3), (3, 2), (4, 4)):
        filled = FilledRows(rows, processes * micro)
        shards = [
            BatchSamplerShard(BatchSampler(EvenOrder(filled, 7), micro, drop_last=False), processes, rank)
            for rank in range(processes)
        ]
        passes = [[*shard] for shard in shards]
        assert len({len(each) for each in passes}) == 1
        read = [row for each in passes for batch in each for row in batch if row < len(rows)]
        assert sorted(read) == rows
        alone = [*SeedableRandomSampler(rows, generator=torch.Generator(), data_seed=7)]
        for step, batches in enumerate(zip(*passes, strict=True)):
            together = processes * micro
            assert {row for batch in batches for row in batch if row < len(rows)} == {
                *alone[step * together : (step + 1) * together]
            }


def test_a_batch_of_fillers_alone_is_marked_and_others_are_left_out() -> None:
    collated = collate_filled(lambda rows: {"rows": list(rows)})
    assert collated([1, None, 2]) == {"rows": [1, 2]}
    nothing = collated([None, None])
    assert FILLER in nothing
    assert int(nothing["attention_mask"].sum()) == 0
