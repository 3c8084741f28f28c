"""A Python grader gets what it needs, and can neither harm the machine nor read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from graders.errors import Fault, GradingFailed
from graders.sandbox.sandbox import MIB, SandboxLimits, run_grader
from graders.sandbox.system_calls import filter_program

NAMESPACES = {"sample": {"output_text": "4"}, "item": {"answer": "4"}}
SHORT = SandboxLimits(time_s=1.0, memory_bytes=256 * MIB)


def graded(body: str, limits: SandboxLimits = SHORT) -> float:
    return run_grader(f"def grade(sample, item):\n    {body}\n", NAMESPACES, limits)


def test_a_grader_returns_a_number_of_sample_and_item() -> None:
    assert graded("return 0.25 if sample['output_text'] == item['answer'] else 0") == 0.25
    assert graded("print('x' * 100000); return True") == 1.0


def test_a_grader_may_use_numpy_rapidfuzz_and_the_standard_library() -> None:
    limits = SandboxLimits(time_s=10.0)
    assert graded("import numpy, rapidfuzz, json, re, math; return float(numpy.mean([1, 2]))", limits) == 1.5


@pytest.mark.long
@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("while True: pass", "longer than 1 s"),
        ("import time; time.sleep(60)", "longer than 1 s"),
        ("import os; return os.fork()", "not permitted"),
        ("import subprocess; subprocess.run(['/usr/bin/id'])", "not permitted"),
        ("from threading import Thread, Event; [Thread(target=Event().wait).start() for _ in range(99)]", "thread"),
        ("return len([bytearray(10**8) for _ in range(99)])", "memory"),
        ("open('/usr/x', 'w')", "Read-only"),
        ("open('/x', 'w')", "Read-only"),
        ("open('/tmp/x', 'wb').write(bytes(10**8))", "too large"),
        ("[open(f'/tmp/{n}', 'wb').write(bytes(10**7)) for n in range(9)]", "No space"),
        ("import os; os.memfd_create('x')", "not permitted"),
        ("import socket; socket.create_connection(('127.0.0.1', 1))", "not permitted"),
        ("import os; os.kill(os.getpid(), 9)", "without an answer"),
        ("import os; os._exit(0)", "without an answer"),
        ("raise SystemExit(1)", "SystemExit"),
        ("return float('nan')", "not a finite number"),
        ("return None", "TypeError"),
        ("return grade(sample, item)", "RecursionError"),
        ("1 / 0", "division by zero (line 2 of the source)"),
        ("import os\n    while True: os.write(3, bytes(10**6))", "answer"),
        ("import torch", "No module named 'torch'"),
    ],
)
def test_a_grader_that_breaks_a_limit_fails_and_nothing_else_does(body: str, said: str) -> None:
    with pytest.raises(GradingFailed) as failed:
        graded(body)
    assert failed.value.fault is Fault.PYTHON
    assert said in str(failed.value)


def test_a_grader_that_kills_its_parent_kills_nothing() -> None:
    assert graded("import os; os.kill(os.getppid(), 9); return 1.0") == 1.0


def test_a_grader_sees_no_file_no_process_and_no_variable_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORRY_API_KEY", "secret")
    secret = tmp_path / "secret"
    secret.write_text("secret")
    assert graded(f"import os; return float(os.path.exists({str(secret)!r}))") == 0
    assert graded("import os; return float(any(os.path.exists(p) for p in ('/proc', '/etc', '/home', '/sys')))") == 0
    assert graded("import os; return float('secret' in str(dict(os.environ)))") == 0
    assert graded("import os; return os.getpid()") < 5


@pytest.mark.parametrize(
    ("source", "said"),
    [("def grade(:", "SyntaxError"), ("x = 1", "defines no function grade"), ("1 / 0", "line 1 of the source")],
)
def test_a_source_without_a_grader_is_refused_before_any_sample(source: str, said: str) -> None:
    with pytest.raises(GradingFailed) as failed:
        run_grader(source, None)
    assert said in str(failed.value)


def test_the_filter_is_known_for_two_machines_only() -> None:
    assert filter_program("x86_64") != filter_program("aarch64")
    assert filter_program("riscv64") is None
