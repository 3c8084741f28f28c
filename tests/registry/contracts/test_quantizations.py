"""What a quantization decides before and after its work: groups, rows, and the verdict of its gate."""

from __future__ import annotations

import math

import pytest

from registry.contracts.quantizations.quantization_report import judge, score
from registry.contracts.quantizations.rows_used import rows_used, samples_for, scored_rows
from registry.contracts.quantizations.schemes import SCHEMES, Scheme, choose_group
from registry.errors import NotQuantizable


@pytest.mark.parametrize(("widths", "size"), [((4096, 11008), 128), ((576, 1536), 64), ((32, 64), 32)])
def test_the_largest_group_that_divides_all_widths_is_taken_and_another_one_explained(
    widths: tuple[int, ...], size: int
) -> None:
    choice = choose_group(Scheme.W4A16_GPTQ, widths)
    assert choice.size == size
    assert (choice.remark is None) == (size == 128)
    if choice.remark:
        assert str(widths[0]) in choice.remark


def test_a_group_that_is_not_possible_is_refused_with_those_that_are() -> None:
    with pytest.raises(NotQuantizable, match=r"group_size: 128 is not possible.*64, 32 divide .*\(576, 1536\)"):
        choose_group(Scheme.W4A16_AWQ, (576, 1536), 128)
    with pytest.raises(NotQuantizable, match=r"scheme: .*none of these divides.*\(100\)"):
        choose_group(Scheme.W4A16_AWQ, (100,))
    with pytest.raises(NotQuantizable, match="group_size: fp8 has no groups"):
        choose_group(Scheme.FP8, (128,), 64)
    assert choose_group(Scheme.W4A16_GPTQ, (576, 1536), 32).size == 32


def test_rows_that_are_scored_never_calibrate_and_a_seed_repeats_them() -> None:
    assert [scored_rows(rows) for rows in (10, 100, 1000)] == [2, 20, 32]
    assert [samples_for(rows, None) for rows in (10, 100, 1000)] == [8, 80, 128]
    used = rows_used(100, 80, 7)
    assert used == rows_used(100, 80, 7) != rows_used(100, 80, 8)
    assert not set(used.calibration) & set(used.scored)
    assert (len(used.calibration), len(used.scored)) == (80, 20)


def test_too_few_rows_are_refused_with_the_numbers() -> None:
    with pytest.raises(NotQuantizable, match=r"12 rows, of which 2 are kept .* 10 are left for 128 samples"):
        samples_for(12, 128)
    with pytest.raises(NotQuantizable, match=r"4 rows.* 2 are left for 8 samples"):
        samples_for(4, None)


def test_the_gate_refuses_what_rose_too_far_unless_it_is_waived() -> None:
    scores = {"english": score(20.0, 20.9), "chinese": score(10.0, 12.0), "calibration": score(5.0, 4.0)}
    refused = judge(scores, 0.05, ())
    assert (refused.refused, refused.passed) == (("chinese",), False)
    waived = judge(scores, 0.05, ["chinese"])
    assert (waived.passed, waived.waived) == (True, ("chinese",))
    assert judge(scores, 0.2, ()).passed
    assert judge({"english": score(20.0, math.nan)}, 5, ()).refused == ("english",)
    assert judge({"english": score(20.0, math.inf)}, 5, ()).refused == ("english",)


def test_every_scheme_has_a_row() -> None:
    assert set(SCHEMES) == set(Scheme)
