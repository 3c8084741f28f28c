"""An upload is accepted if it has the rows of one method, and its faults are named by the method that it looks like."""

from __future__ import annotations

import json
from io import BytesIO

import pytest

from registry.contracts.job_kinds import FINE_TUNING_METHODS
from registry.contracts.methods.supervised_spec import SupervisedSpec
from registry.contracts.uploads.training_upload import MOST_LINE_BYTES, check_line_lengths, check_training_upload
from registry.errors import TrainingFileInvalid

CHAT = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}


def lines(*rows: object) -> BytesIO:
    return BytesIO(b"\n".join(json.dumps(row).encode() for row in rows))


def test_a_file_of_chats_is_for_the_supervised_method() -> None:
    assert check_training_upload(lines(*[CHAT] * 11)) == (SupervisedSpec, 11)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (BytesIO(b"\n \n"), "the file is empty"),
        (BytesIO(b"\nPK\x03"), "line 2: is not valid JSON"),
        (lines(CHAT), "the file has 1 examples; at least 10"),
        (lines(*[CHAT] * 10, {"messages": []}), "line 11: messages must be a list"),
        (lines({"question": "q", "answer": "a"}), r'line 1: no method reads the fields \["answer", "question"\]'),
    ],
)
def test_a_fault_is_named(file: BytesIO, said: str) -> None:
    with pytest.raises(TrainingFileInvalid, match=said):
        check_training_upload(file)


def test_the_error_for_an_unknown_format_lists_what_each_method_reads() -> None:
    with pytest.raises(TrainingFileInvalid) as caught:
        check_training_upload(lines({"text": "once"}))
    for method in FINE_TUNING_METHODS:
        assert method in str(caught.value)


def test_a_line_that_is_too_long_is_refused_before_it_is_read_whole() -> None:
    row = json.dumps(CHAT).encode() + b"\n"
    longest = b'{"x": "' + b"y" * (MOST_LINE_BYTES - 9) + b'"}'
    assert len(longest) == MOST_LINE_BYTES
    check_line_lengths(BytesIO(row * 3 + longest + b"\n" + row))
    for end in (b"", b"\n" + row):
        with pytest.raises(TrainingFileInvalid, match=r"line 4: has more than 16,777,216 bytes; .* purpose vision"):
            check_training_upload(BytesIO(row * 3 + b" " + longest + end))
