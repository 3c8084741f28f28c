"""An upload is accepted if it has the rows of one method, and its faults are named by the method that it looks like."""

from __future__ import annotations

import json
from io import BytesIO

import pytest

from registry.contracts.job_kinds import FINE_TUNING_METHODS
from registry.contracts.methods.supervised_spec import SupervisedSpec
from registry.contracts.uploads.training_upload import check_training_upload
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
