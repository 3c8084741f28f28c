"""Rows of other forms and files become training lines, and every row that cannot is counted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from corpus.converting import convert
from corpus.errors import SourceRefused, TooManyDropped

ROWS: Mapping[str, Mapping[str, Any]] = {
    "sharegpt": {
        "system": "Be brief.",
        "conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}],
    },
    "alpaca": {"system": "Be brief.", "instruction": "Q", "input": "", "output": "A"},
    "query-response": {"system": "Be brief.", "query": "Q", "response": "A"},
    "openai": {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Q"},
            {"role": "assistant", "content": "A"},
        ],
        "id": 7,
    },
}
LINE = {"messages": ROWS["openai"]["messages"]}


def lines_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def written(path: Path, rows: Sequence[object]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("form", ROWS)
def test_a_row_of_every_form_becomes_the_same_chat(tmp_path: Path, form: str) -> None:
    done = convert(written(tmp_path / "in.jsonl", [ROWS[form]]), tmp_path / "out.jsonl")
    assert (done.form, done.read, done.written) == (form, 1, 1)
    assert lines_of(tmp_path / "out.jsonl") == [LINE]


@pytest.mark.parametrize("kind", ["json", "csv", "tsv", "parquet"])
def test_rows_of_every_kind_of_file_are_read(tmp_path: Path, kind: str) -> None:
    row, path = ROWS["alpaca"], tmp_path / f"in.{kind}"
    if kind == "json":
        path.write_text(json.dumps([row]))
    elif kind == "parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist([dict(row)]), path)
    else:
        mark = "\t" if kind == "tsv" else ","
        path.write_text("".join(mark.join(cells) + "\n" for cells in (row.keys(), row.values())), encoding="utf-8-sig")
    convert(str(path), tmp_path / "out.jsonl")
    assert lines_of(tmp_path / "out.jsonl") == [LINE]


def test_calls_of_tools_and_pairs_are_taken_over(tmp_path: Path) -> None:
    call = {
        "tools": json.dumps([{"name": "find", "parameters": {"type": "object"}}]),
        "conversations": [
            {"from": "human", "value": "Where?"},
            {"from": "function_call", "value": '{"name": "find", "arguments": {"of": 1}}'},
            {"from": "observation", "value": "Here"},
            {"from": "gpt", "value": "Here."},
        ],
    }
    convert(written(tmp_path / "in.jsonl", [call]), tmp_path / "out.jsonl")
    (line,) = lines_of(tmp_path / "out.jsonl")
    assert line["tools"] == [{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}]
    assert [turn["role"] for turn in line["messages"]] == ["user", "assistant", "tool", "assistant"]
    assert line["messages"][1]["tool_calls"][0]["function"] == {"name": "find", "arguments": '{"of": 1}'}
    chats = [[{"role": "user", "content": "Q"}, {"role": "assistant", "content": text}] for text in ("good", "bad")]
    pair = {"chosen": chats[0], "rejected": chats[1]}
    convert(written(tmp_path / "pairs.jsonl", [pair]), tmp_path / "pairs-out.jsonl")
    assert lines_of(tmp_path / "pairs-out.jsonl") == [
        {
            "input": {"messages": [{"role": "user", "content": "Q"}]},
            "preferred_output": [{"role": "assistant", "content": "good"}],
            "non_preferred_output": [{"role": "assistant", "content": "bad"}],
        }
    ]


def test_every_row_that_is_left_out_is_counted_with_its_reason_and_line(tmp_path: Path) -> None:
    bad = [{**ROWS["alpaca"], "output": " "}, {"instruction": "Q"}]
    source = written(tmp_path / "in.jsonl", [*[ROWS["alpaca"]] * 98, *bad])
    with (tmp_path / "in.jsonl").open("a") as file:
        file.write("{\n")
    with pytest.raises(TooManyDropped, match=r"3 of 101 rows .* the 1 % .*output is empty \(1: line 99\)"):
        convert(source, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()
    done = convert(source, tmp_path / "out.jsonl", most_dropped=0.05)
    assert (done.read, done.written, len(lines_of(tmp_path / "out.jsonl"))) == (101, 98, 98)
    assert sorted(places for places in done.dropped.values()) == [["line 100"], ["line 101"], ["line 99"]]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("in.jsonl", '{"a": 1}\n', "no known form: openai"),
        ("in.txt", "x", "is none of .jsonl"),
        ("in.json", "{", "is not valid JSON"),
        ("in.parquet", "PAR1", "is not a readable Parquet file"),
        ("in.csv", 'instruction,output\n"a', "is not valid CSV"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_name(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SourceRefused, match=message):
        convert(str(tmp_path / name), tmp_path / "out.jsonl")
