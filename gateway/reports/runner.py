"""The reports that one gateway makes: a child process for each, at the lowest priority, one at a time."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from engines.process import LAUNCHER
from registry.database import Registry
from registry.errors import NotFound, RegistryError
from registry.liveness.silence import SilenceWatch
from registry.states import ReportState
from registry.types import File

log = logging.getLogger(__name__)

BEAT_S: Final = 2.0
LEASE_S: Final = 20.0
"""How long a report stays with a gateway that does not renew it, measured by those that wait."""
LONGEST_S: Final = 1800.0
MOST_ATTEMPTS: Final = 3
_REFUSED: Final = 2


class ReportRunner:
    """Makes the reports that no gateway makes."""

    def __init__(self, registry: Registry, look_every_s: float) -> None:
        self._registry = registry
        self._every_s = look_every_s
        self._silences = SilenceWatch(registry.transactions.steady)
        self._held: File | None = None
        self._child: Process | None = None

    async def run(self) -> None:
        """Look for files without a report until cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            try:
                while (file := await asyncio.to_thread(self._claim)) is not None:
                    await self._make(file)
            except RegistryError as exc:
                self._silences = SilenceWatch(self._registry.transactions.steady)
                log.warning("reports not looked for, trying again", extra={"error": str(exc)})

    async def aclose(self) -> None:
        """Give the report back that a cancelled `run` was making."""
        if self._held is not None:
            with suppress(RegistryError):  # its lease ends too
                await asyncio.to_thread(self._registry.reports.give_back, self._held)
        if self._child is not None:
            _end(self._child)
            await self._child.communicate()  # an event loop that ends before its child's pipes leaves them open

    def _claim(self) -> File | None:
        found = self._registry.reports.open()
        silences = self._silences.look({file.id: (file.report_attempt, file.report_beat) for file in found})
        for file in found:
            if file.report_state is ReportState.WAITING or silences[file.id] > LEASE_S:
                if file.report_attempt >= MOST_ATTEMPTS:
                    why = (
                        f"no report: the process that makes it ended {MOST_ATTEMPTS} times, perhaps for lack of memory"
                    )
                    self._registry.reports.fail(file, why)
                elif self._registry.reports.claim(file):
                    attempt = file.report_attempt + 1
                    return replace(file, report_state=ReportState.WORKING, report_attempt=attempt)
        return None

    async def _make(self, file: File) -> None:
        self._held = file
        try:
            command = await asyncio.to_thread(self._command, file)
        except (NotFound, RegistryError) as exc:
            await asyncio.to_thread(self._registry.reports.fail, file, f"no report: {exc}")
            self._held = None
            return
        self._child = child = await _start(command)
        try:
            async with asyncio.timeout(LONGEST_S):
                await self._until_end(child)
        except TimeoutError:
            log.warning("a report took too long", extra={"file": file.id})
        finally:
            _end(child)
        self._held = self._child = None

    async def _until_end(self, child: Process) -> None:
        """Renew the lease until the child has ended, and store its report."""
        answer = asyncio.ensure_future(child.communicate())
        try:
            while not answer.done():
                await asyncio.wait([answer], timeout=BEAT_S)
                held = self._held
                if (
                    not answer.done()
                    and held is not None
                    and await asyncio.to_thread(self._registry.reports.renew, held)
                ):
                    self._held = replace(held, report_beat=held.report_beat + 1)
            out, err = await answer
        finally:
            answer.cancel()
        if self._held is not None:
            await asyncio.to_thread(self._store, self._held, child.returncode, out, err)

    def _store(self, file: File, code: int | None, out: bytes, err: bytes) -> None:
        if code == 0:
            report: dict[str, Any] = json.loads(out)
            self._registry.reports.finish(file, report, summary_of(report))
        elif code == _REFUSED:
            self._registry.reports.fail(file, f"no report: {err.decode(errors='replace')[-500:]}")
        else:
            log.warning("a report failed", extra={"file": file.id, "output": err.decode(errors="replace")[-2000:]})
            self._registry.reports.give_back(file)

    def _command(self, file: File) -> list[str]:
        path = self._registry.files.path(file)
        return [sys.executable, "-P", "-m", "corpus", str(path), file.filename, *self._model()]

    def _model(self) -> list[str]:
        """Return folder and name of the base model that counts tokens: the only one that chats, if there is one."""
        bases = [base for base in self._registry.bases.list() if not base.is_checkpoint]
        chatting = [base for base in map(self._registry.at_hand, bases) if _has_template(Path(base.path))]
        return [chatting[0].path, chatting[0].name] if len(chatting) == 1 else []


def summary_of(report: dict[str, Any]) -> str:
    """Return what the report comes to, in a sentence."""
    found = [finding["text"] for finding in report["findings"] if finding["level"] != "note"]
    if not found:
        return ""
    return f"{len(found)} findings to look at, such as: {found[0]}" if len(found) > 1 else f"To look at: {found[0]}"


def _has_template(folder: Path) -> bool:
    if not (folder / "tokenizer.json").is_file():
        return False
    try:
        config = json.loads((folder / "tokenizer_config.json").read_bytes())
    except (OSError, ValueError):
        return False
    return bool(config.get("chat_template")) or (folder / "chat_template.jinja").is_file()


async def _start(command: list[str]) -> Process:
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    bound = [sys.executable, str(LAUNCHER), str(os.getpid()), *command]
    return await asyncio.create_subprocess_exec(
        *bound, stdin=asyncio.subprocess.DEVNULL, stdout=PIPE, stderr=PIPE, env=environment, start_new_session=True
    )


def _end(child: Process) -> None:
    """Kill the child and what it started, if it is still there."""
    if child.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, 9)
