"""Roll out copies of the same revision on a real engine, and count how many the judge takes for worse.

    python bench/alike/rollouts.py [--kind transformers] [--rollouts 30] [--min-samples 100] [--json FILE]

`lorry up` with two replicas of the engine and a small base model with random weights. An adapter is published once with
its fingerprint, then copies of it as further revisions, each with a rollout of 5, 25, 50 and 100 %. All the time
callers with long shared system prompts send even traffic with bursts. LORRY_TEST_ENVS names the folder of the other
kinds' environments.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.alike.base import save_adapter, save_base
from bench.alike.callers import Callers
from bench.comparison.native import free_ports
from registry.database import Registry, open_registry
from registry.publishing.publish import publish
from registry.rollouts.guardrails import GuardrailPlan
from registry.rollouts.rollout import Rollout, RolloutPlan, weighted
from registry.rollouts.rollout_state import RolloutState
from registry.rollouts.tally import Side, total
from registry.settings import RegistrySettings
from registry.types import RevisionDraft
from tests.contract.kinds import link_environments
from tests.up_process import Up
from tests.waiting import wait_for

NAME: Final = "support"
BASE: Final = "small"
STEPS: Final = (5, 25, 50, 100)
WATCH_S: Final = 5.0
"""How long each promotion is watched before the next rollout."""
PATIENCE_S: Final = 1200.0
LOAD_S: Final = 400.0
LOOK_S: Final = 1.0
SETTINGS: Final = """
[[engines.pools]]
name = "alike"
kind = "{kind}"
base = "{base}"
min_replicas = {replicas}
engine = {{ max_adapters = 4, max_rank = 16, max_batch = 16 }}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The outcome of a rollout."""

    state: str
    reason: str
    message: str
    seconds: float
    canary_requests: int
    stable_requests: int
    canary_in_cache: float
    """The part of the canary's first tokens whose prompt was in the engine's cache."""
    stable_in_cache: float
    was_taken_back: bool


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", default="transformers")
    parser.add_argument("--rollouts", type=int, default=30)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--min-samples", type=int, default=100)
    parser.add_argument("--callers", type=int, default=12)
    parser.add_argument("--pause-s", type=float, default=0.5, help="mean pause of a caller between two requests")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home, base = Path(scratch) / "home", Path(scratch) / BASE
        home.mkdir()
        save_base(base)
        save_adapter(Path(scratch) / "adapter", base)
        link_environments(home, args.kind)
        (port,) = free_ports(1)
        up = Up(home, port, SETTINGS.format(kind=args.kind, base=base, replicas=args.replicas))
        try:
            _say(f"{args.kind}: {up.ready_line.strip()}")
            up.lorry("adapters", "publish", str(Path(scratch) / "adapter"), "--name", NAME, "--base", BASE)
            ended = asyncio.run(_roll_out_all(args, up, home))
        finally:
            up.stop(signal.SIGINT)
    _show(ended)
    if args.json:
        args.json.write_text(json.dumps([asdict(each) for each in ended], indent=1))


async def _roll_out_all(args: argparse.Namespace, up: Up, home: Path) -> Sequence[Ended]:
    registry = open_registry(RegistrySettings(url=f"sqlite:///{home / 'registry.db'}", artifacts=home / "artifacts"))
    callers = Callers(url=up.url, model=NAME, pause_s=args.pause_s)
    plan = RolloutPlan(steps=weighted(*STEPS), guardrails=GuardrailPlan(min_samples=args.min_samples))
    ended: list[Ended] = []
    try:
        await asyncio.to_thread(wait_for, lambda: registry.adapters.get(NAME).stable == 1, LOAD_S)
        calling = [asyncio.create_task(callers.call(seed)) for seed in range(args.callers)]
        for number in range(args.rollouts):
            before, began = callers.answered, time.monotonic()
            ended.append(await _roll_out(registry, plan))
            rate = (callers.answered - before) / (time.monotonic() - began)
            _say(f"{number + 1:>3} {_line(ended[-1])}; {rate:.1f} answers/s, failed {dict(callers.failed)}")
            for task in calling:
                if task.done():
                    task.result()
        for task in calling:
            task.cancel()
        await asyncio.gather(*calling, return_exceptions=True)
        _say(f"{callers.answered:,} answers, {100 * callers.in_cache / callers.answered:.0f} % from the cache")
    finally:
        registry.close()
    return ended


async def _roll_out(registry: Registry, plan: RolloutPlan) -> Ended:
    """Publish a copy of the first revision, and return what became of its rollout."""
    began = time.monotonic()
    first = registry.adapters.revision(NAME, 1)
    draft = RevisionDraft(adapter=NAME, base=BASE, owner="bench")
    await asyncio.to_thread(publish, registry, registry.artifacts.folder(first.artifact), draft, rollout=plan)
    rollout = registry.rollouts.list(NAME, 1)[0]
    while not (rollout := registry.rollouts.get(rollout.id)).state.is_terminal:
        if time.monotonic() - began > PATIENCE_S:
            raise SystemExit(f"not over after {PATIENCE_S} s: {rollout.state} {rollout.reason} {rollout.evidence}")
        await asyncio.sleep(LOOK_S)
    seconds = time.monotonic() - began
    if rollout.state is RolloutState.PROMOTED:
        await asyncio.sleep(WATCH_S)
    latest = registry.rollouts.list(NAME, 1)[0]
    if was_taken_back := latest.id != rollout.id:
        rollout = registry.rollouts.get(rollout.id)
    _retire_others(registry)
    return _ended(registry, rollout, seconds, was_taken_back=was_taken_back)


def _retire_others(registry: Registry) -> None:
    """Leave only the stable revision in service."""
    stable = registry.adapters.get(NAME).stable
    ready = [each.number for each in registry.snapshot().revisions if each.number != stable]
    for number in ready:
        registry.adapters.retire(NAME, number, "bench")


def _ended(registry: Registry, rollout: Rollout, seconds: float, *, was_taken_back: bool) -> Ended:
    cells = {cell: tally for cell, tally in registry.tallies.of_rollout(rollout.id).items() if cell.step < len(STEPS)}
    canary, stable = (
        total(tally for cell, tally in cells.items() if cell.side is side) for side in (Side.CANARY, Side.STABLE)
    )
    evidence: dict[str, Any] = dict(rollout.evidence or {})
    cached, others = (sum(each.ttft_cached.values()) / max(1, sum(each.ttft.values())) for each in (canary, stable))
    return Ended(
        state=str(rollout.state),
        reason=evidence.get("reason", rollout.reason) if was_taken_back else rollout.reason,
        message=evidence.get("message", "") if was_taken_back else rollout.message,
        seconds=seconds,
        canary_requests=canary.requests,
        stable_requests=stable.requests,
        canary_in_cache=cached,
        stable_in_cache=others,
        was_taken_back=was_taken_back,
    )


def _line(ended: Ended) -> str:
    what = f"{ended.state}, taken back" if ended.was_taken_back else ended.state
    return (
        f"{what} ({ended.reason}) after {ended.seconds:.0f} s, {ended.canary_requests} canary and "
        f"{ended.stable_requests} stable requests, {100 * ended.canary_in_cache:.0f} % and "
        f"{100 * ended.stable_in_cache:.0f} % in the cache: {ended.message}"
    )


def _show(ended: Sequence[Ended]) -> None:
    counts = Counter((each.state, each.was_taken_back, each.reason) for each in ended)
    for (state, was_taken_back, reason), count in counts.most_common():
        _say(f"{count:>4} {state}{', taken back' if was_taken_back else ''}: {reason}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
