"""A program with libraries or engines that a child has not, as the child that started it sees it."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final

from trainer.errors import JobFailed
from trainer.processes.child_environment import child_environment
from trainer.quantizing.order import ToolMessage

LOOK_EVERY_S: Final = 0.5
_GRACE_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolProgram:
    """A program, and the words for its failures."""

    module: str
    """Run as `python -m MODULE ORDER DESCRIPTOR`; it writes lines of `ToolMessage` to the descriptor."""
    does: str
    """The verb of the program's work, as messages use it: `quantizes`."""
    code: str
    """Code of the job where the program reports that it failed."""
    could_not: str
    """The same as the beginning of a sentence."""


QUANTIZES: Final = ToolProgram(
    module="trainer.quantizing.program",
    does="quantizes",
    code="quantization_failed",
    could_not="the model could not be quantized",
)
TRIES_ENGINES: Final = ToolProgram(
    module="engines.proving.trial_program",
    does="tries the checkpoint on engines",
    code="load_test_failed",
    could_not="the checkpoint could not be compared with the model in full precision",
)


class ToolProcess:
    """A program at work; `messages` yields what it reports. In our process group, and killed with us."""

    def __init__(self, program: ToolProgram, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self._program = program
        self._process = process
        self._lines: SimpleQueue[bytes | None] = SimpleQueue()
        threading.Thread(target=self._read, args=(descriptor,), name="tool", daemon=True).start()

    def messages(self) -> Iterator[ToolMessage | None]:
        """Yield each message, and None every half second without one; `JobFailed` where the program ends too early."""
        while True:
            try:
                line = self._lines.get(timeout=LOOK_EVERY_S)
            except Empty:
                yield None
                continue
            if line is None:
                code = self._process.wait()
                how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
                memory = " (the machine may have run out of memory)" if code == -9 else ""
                raise JobFailed(
                    "trainer_error", f"the program that {self._program.does} {how}{memory}; its output is in child.log"
                )
            message = ToolMessage.parse(line)
            if message.kind == "failed":
                raise JobFailed(self._program.code, f"{self._program.could_not}: {message.message}")
            yield message
            if message.kind == "finished":
                return

    def _read(self, descriptor: int) -> None:
        with os.fdopen(descriptor, "rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):  # a program that was killed may leave half a line
                    self._lines.put(line)
        self._lines.put(None)


@contextmanager
def tool_at_work(interpreter: Path, program: ToolProgram, order_path: Path, threads: int) -> Iterator[ToolProcess]:
    """Start the program by *interpreter*; at the end of the block nothing of it runs any more."""
    reading, writing = os.pipe()
    try:
        process = subprocess.Popen(
            [str(interpreter), "-P", "-m", program.module, str(order_path), str(writing)],
            env=child_environment(os.environ, threads) | {"LLM_COMPRESSOR_LOG_LEVEL": "WARNING"},
            pass_fds=(writing,),
            stdin=subprocess.DEVNULL,
            stdout=2,  # of ours, which is the attempt's log
        )
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)  # with our copy open, the reader would never see the end of the pipe
    try:
        yield ToolProcess(program, process, reading)
        # Everything is written by then. Where its end takes longer, on a busy machine, nothing is lost by the kill.
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_S)
    finally:
        process.kill()
        process.wait()
