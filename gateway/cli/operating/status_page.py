"""How the status looks in a terminal: three parts, each a line or two for what it has. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.text import Text

from gateway.cli.output import Screen, ago, length
from gateway.cli.rollout.page import headline
from gateway.cli.tables.forms import Reader, printable
from gateway.cli.tables.layout import broken_at_blanks
from gateway.objects.status import BatchBrief, CurrentJob, DiskStatus, PoolStatus, SystemStatus
from registry.jobs.job_state import JobState

_LABEL: Final = 13
Line = tuple[str, str]
"""A label, and what it stands for."""


def page_of(found: SystemStatus, screen: Screen, now: float) -> list[Text]:
    """Return the lines of the page."""
    lines = [Text(f"Lorry {found.version}", style="bold")]
    for title, part in (("runs", _runs(found)), ("moves", _moves(found))):
        lines += [Text(), Text(title.upper(), style="bold"), *_laid_out(part, screen)]
    lines += [Text(), Text("NEEDS YOU", style="bold")]
    if not found.needs:
        lines.append(Text("  nothing", style="green"))
    for need in found.needs:
        lines += _laid_out([("", f"{need.subject}: {need.message}")], screen, style="red")
        lines += [Text(f"      {need.command}")]
    return lines


def _runs(found: SystemStatus) -> Iterator[Line]:
    yield "gateways", str(len(found.gateways))
    for pool in found.pools:
        yield "pool", _pool(pool)
    for replica in found.not_ready:
        message = f": {replica.message.partition(chr(10))[0]}" if replica.message else ""
        yield str(replica.state), f"{replica.id}, started {ago(replica.started_at)}{message}"
    for part in found.parts:
        yield part.part, f"seen {ago(part.seen_at)}"
    for disk in found.disks:
        yield "disk", _disk(disk)


def _pool(pool: PoolStatus) -> str:
    name = pool.pool or "added by hand"
    digest = f" ({pool.base_digest[:12]})" if pool.base_digest else ""
    if pool.asleep:
        return f"{name}: asleep, the next request wakes it, {pool.engine} with {pool.base}{digest}"
    return (
        f"{name}: {pool.ready} of {pool.replicas} ready, {pool.load} requests, {pool.engine} with {pool.base}{digest}"
    )


def _disk(disk: DiskStatus) -> str:
    return f"{disk.free_bytes / 1e9:.1f} GB of {disk.total_bytes / 1e9:.0f} GB free in {disk.path}"


def _moves(found: SystemStatus) -> Iterator[Line]:
    for rollout in found.rollouts:
        held = rollout.evidence.message if rollout.evidence is not None else ""
        yield "rollout", f"{headline(rollout)}{'; ' if held else ''}{held}"
    for job in found.jobs:
        yield "job", _job(job)
    unseen = found.queued_jobs - sum(job.status is JobState.QUEUED for job in found.jobs)
    if unseen > 0:
        yield "", f"{unseen} more jobs wait, see lorry jobs list"
    for batch in found.batches:
        yield "batch", _batch(batch)
    if not (found.rollouts or found.jobs or found.batches):
        yield "", "nothing"


def _batch(batch: BatchBrief) -> str:
    done = f", {batch.done} of {batch.total} requests done" if batch.total else ""
    waits = f", waits: {batch.waits_for}" if batch.waits_for else ""
    return f"{batch.id} of {batch.owner}: {batch.status}{done}{waits}, created {ago(batch.created_at)}"


def _job(job: CurrentJob) -> str:
    waits = "waits for the trainer" if job.status is JobState.QUEUED else str(job.status)
    doing = job.doing or waits
    left = "" if job.estimate is None else f", about {length(job.estimate.remaining_s)} left"
    return f"{job.id} ({job.method} of {job.adapter}): {doing}{left}, queued {ago(job.created_at)}"


def _laid_out(lines: Sequence[Line] | Iterator[Line], screen: Screen, style: str = "") -> Iterator[Text]:
    """Yield lines with their labels; a terminal gets them in its width, words whole, a program as they are."""
    for label, text in lines:
        start = f"  {label:<{_LABEL}}" if label else "  "
        clean = printable(text)
        is_narrow = screen.reader is Reader.TERMINAL
        parts = broken_at_blanks(clean, max(20, screen.width - len(start))) if is_narrow else [clean]
        for number, part in enumerate(parts):
            yield Text(f"{start if number == 0 else ' ' * len(start)}{part}", style=style)
