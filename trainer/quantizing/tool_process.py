"""The program that quantizes, as the child that started it sees it."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final

from trainer.errors import JobFailed
from trainer.processes.child_environment import child_environment
from trainer.quantizing.order import QuantizeOrder, ToolMessage

LOOK_EVERY_S: Final = 0.5
_GRACE_S: Final = 10.0


class ToolProcess:
    """A program at work; `messages` yields what it reports. In our process group, and killed with us."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
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
                    "trainer_error", f"the program that quantizes {how}{memory}; its output is in child.log"
                )
            message = ToolMessage.parse(line)
            if message.kind == "failed":
                raise JobFailed("quantization_failed", f"the model could not be quantized: {message.message}")
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
def tool_at_work(interpreter: Path, order: QuantizeOrder, order_path: Path) -> Iterator[ToolProcess]:
    """Start the program by *interpreter*; at the end of the block nothing of it runs any more."""
    order.write(order_path)
    reading, writing = os.pipe()
    try:
        process = subprocess.Popen(
            [str(interpreter), "-P", "-m", "trainer.quantizing.program", str(order_path), str(writing)],
            env=child_environment(os.environ, order.threads) | {"LLM_COMPRESSOR_LOG_LEVEL": "WARNING"},
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
        yield ToolProcess(process, reading)
        process.wait(_GRACE_S)
    finally:
        process.kill()
        process.wait()
