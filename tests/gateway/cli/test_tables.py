"""A table leaves out whole columns where a terminal is narrow, breaks no word, and gives programs one line a row."""

from __future__ import annotations

import random
import string
import time

import pytest
from rich.cells import cell_len

from gateway.cli.tables.forms import Reader, ago, moments, plain, short_digests, short_ids
from gateway.cli.tables.layout import Column, Screen, broken_at_blanks, field_lines, laid_out

LETTERS = string.ascii_letters + string.digits + "@.-_äß漢字"


def word(chance: random.Random, longest: int) -> str:
    return "".join(chance.choices(LETTERS, k=chance.randint(1, longest)))


def sentence(chance: random.Random) -> str:
    return " ".join(word(chance, 70) for _ in range(chance.randint(0, 12)))


@pytest.mark.parametrize("seed", range(40))
def test_at_any_width_no_word_is_broken_and_the_less_important_columns_go_first(seed: int) -> None:
    chance = random.Random(seed)
    ranks = [0, *(chance.randint(1, 6) for _ in range(chance.randint(1, 8)))]
    columns = [Column(word(chance, 12), rank) for rank in ranks] + [Column("DETAIL", below=True)]
    rows = [[word(chance, 64) for _ in ranks] + [sentence(chance)] for _ in range(chance.randint(1, 9))]
    for width in (20, 40, 80, 100, 200, 1000):
        layout = laid_out(columns, rows, Screen(reader=Reader.TERMINAL, width=width))
        text = [line.plain for line in layout.lines]
        words = set(" ".join(text).split())
        shown = [at for at, column in enumerate(columns[:-1]) if column.title not in layout.left_out]
        assert all(row[at] in words for row in rows for at in shown)
        assert all(each in words for row in rows for each in row[-1].split())
        too_long = [line for line in text if cell_len(line) > width]
        assert all(len(shown) == 1 or line.startswith("    ") for line in too_long), "only what stands alone overflows"
        assert all(len(line.split()) == 1 for line in too_long)
        for at in range(len(ranks)):
            rivals = [cell_len(rows[0][other]) for other in shown if ranks[other] > ranks[at]]
            assert at in shown or all(
                cell_len(max((row[at] for row in rows), key=cell_len)) + cell_len(columns[at].title) > rival
                for rival in rivals
            )


@pytest.mark.parametrize("seed", range(10))
def test_a_program_gets_every_cell_in_one_line_a_row(seed: int) -> None:
    chance = random.Random(seed)
    columns = [Column("LAST SEEN"), Column("ID", 1, short_ids), Column("AT", 2, moments), Column("WHY", below=True)]
    rows = [
        (word(chance, 90), f"ftjob-{chance.randbytes(12).hex()}", chance.random() * 2e9, sentence(chance) or "none")
        for _ in range(5)
    ]
    layout = laid_out(columns, rows, Screen(reader=Reader.PROGRAM, width=20))
    header, *lines = [line.plain for line in layout.lines]
    assert header.split() == ["LAST-SEEN", "ID", "AT", "WHY"]
    assert layout.left_out == []
    for row, line in zip(rows, lines, strict=True):
        name, identity, at, *why = line.split()
        assert (name, identity, " ".join(why)) == (row[0], row[1], row[3])
        assert time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(row[2])) == at[:19]


def test_what_could_steer_a_terminal_or_end_a_line_is_a_blank() -> None:
    assert plain(["a\nb\x1b[2Jc\u202ed", None, ""], Reader.PROGRAM) == ["a b [2Jc d", "-", "-"]


def test_short_ids_are_as_long_as_tells_them_apart() -> None:
    ids = ["ftjob-aaaaaaaaaaaa", "ftjob-aaaaaaaaaabb", "ro-123456789abc", "r1"]
    assert short_ids(ids, Reader.TERMINAL) == ["ftjob-aaaaaaaaaaa", "ftjob-aaaaaaaaaab", "ro-123456789ab", "r1"]
    assert short_ids(ids[1:], Reader.TERMINAL) == ["ftjob-aaaaaaaa", "ro-12345678", "r1"]
    assert short_ids(ids, Reader.WIDE) == short_ids(ids, Reader.PROGRAM) == ids
    assert short_digests(["a" * 64, "b" * 64], Reader.TERMINAL) == ["a" * 12, "b" * 12]


def test_times_are_relative_local_or_for_programs() -> None:
    at = time.time() - 7200
    assert moments([at, None], Reader.TERMINAL) == ["2 h ago", "-"]
    assert moments([at], Reader.WIDE)[0].endswith(" (2 h ago)")
    assert " " not in moments([at], Reader.PROGRAM)[0]
    assert ago(time.time() + 130) == "in 2 min"


def test_fields_continue_below_their_value_and_repeat_their_name_for_programs() -> None:
    fields = [("job", "ftjob-1"), ("error", "a long sentence that goes on\nand a second line"), ("none", None)]
    narrow = field_lines(fields, Screen(reader=Reader.TERMINAL, width=25))
    assert [line.plain for line in narrow] == [
        "job    ftjob-1",
        "error  a long sentence",
        "       that goes on",
        "       and a second line",
    ]
    whole = field_lines(fields, Screen(reader=Reader.PROGRAM, width=25))
    assert [line.plain for line in whole] == [
        "job    ftjob-1",
        "error  a long sentence that goes on",
        "error  and a second line",
    ]


def test_a_word_that_is_longer_than_the_line_stays_whole() -> None:
    assert broken_at_blanks(f"see {'x' * 30} there", 10) == ["see", "x" * 30, "there"]
