"""A Python is slow beside another one of the machine, or by how it was built."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from engines.hardware.interpreter import Interpreter, is_optimised, others_than, read_interpreter

PYTHON = Interpreter(path="/p/python3.11", version="3.11.9", is_optimised=True, quicker=None, ratio=None)


@pytest.mark.parametrize(
    ("config_args", "known"),
    [
        ("'--prefix=/root/.pyenv/versions/3.11.7' '--enable-shared'", False),
        ("'--build=x86_64-linux-gnu' '--enable-optimizations' '--with-lto'", True),
        ("'--enable-shared' '--prefix=/usr' '--with-dtrace' '--with-system-expat'", None),
    ],
)
def test_builds_of_distributions_do_not_tell_whether_they_are_optimised(config_args: str, known: bool | None) -> None:
    assert is_optimised(config_args) is known


def test_a_remark_says_what_to_do_and_only_where_something_is_slow() -> None:
    assert PYTHON.remark is None
    slow = replace(PYTHON, quicker="/usr/bin/python3.11", ratio=1.23)
    assert slow.remark is not None
    assert "1.23 times the time of /usr/bin/python3.11" in slow.remark
    assert "make venv PYTHON=" in slow.remark
    assert "--enable-optimizations" in str(replace(PYTHON, is_optimised=False).remark)


def test_our_own_python_is_read_and_compared_with_no_copy_of_itself() -> None:
    found = read_interpreter()
    assert found.version == sys.version.split()[0]
    assert (found.quicker is None) == (found.ratio is None)
    for place in ("/usr/bin", "/usr/local/bin"):
        own = Path(place) / f"python{sys.version_info.major}.{sys.version_info.minor}"
        assert own.resolve() not in [each.resolve() for each in others_than(own)]
