"""Measure the processor time of a relayed request and chunk, and how late a stream's first token comes.

One gateway process outside of Ray beside vllm-router:

    python bench/one_gateway/relayed.py --cache .bench [--rounds 3] [--seconds 2] [--only TEXT] [--tree NAME=FOLDER]
        [--ray]

All features of the gateway are on. Targets take turns in an order that changes every round; a ratio is the median of
the ratios to vllm-router within a round. `--tree` measures another state of the code too, `--ray` the one gateway
of a `lorry up`. `make natives` compiles the mock engine and the clients.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.comparison.native import MODEL, Load, generate_load, mock_engine
from bench.comparison.process_tree import processor_s, tree_of
from bench.comparison.targets import Peer
from bench.one_gateway.process import ROOT, GatewayProcess, gateway_process
from bench.one_gateway.under_ray import gateway_under_ray

ENGINES: Final = 2
PEER: Final = "vllm-router"
_PACED: Final = ("--stream", "--tokens", "64", "--pace-us", "10000")
CASES: Final[Mapping[str, tuple[str, ...]]] = {
    "16 clients": ("--clients", "16", "--tokens", "16"),
    "64 clients": ("--clients", "64", "--tokens", "16"),
    "16 paced streams": ("--clients", "16", *_PACED),
    "64 paced streams": ("--clients", "64", *_PACED),
    "256 paced streams": ("--clients", "256", *_PACED),
    "64 streams, full speed": ("--clients", "64", "--stream", "--tokens", "64"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A target and how its processor time is read."""

    name: str
    port: int
    key: str | None
    spent_s: Callable[[], float]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="where native programs and the router are")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--only", default="", help="cases with this text in their name")
    parser.add_argument("--ray", action="store_true", help="also the gateway of a `lorry up`")
    parser.add_argument("--tree", action="append", default=[], metavar="NAME=FOLDER")
    args = parser.parse_args()
    trees = {"this tree": ROOT} | {
        name: Path(folder) for name, _, folder in (each.partition("=") for each in args.tree)
    }
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        mock = stack.enter_context(mock_engine(args.cache, ENGINES))
        peer = Peer(PEER, args.cache, mock.ports)
        stack.callback(peer.stop)
        targets = [Measured(name=PEER, port=peer.port, key=None, spent_s=partial(_of_tree, peer))]
        for number, (name, tree) in enumerate(trees.items()):
            own = home / str(number)
            url = f"sqlite:///{own / 'registry.db'}"
            process = stack.enter_context(gateway_process(own, url, mock.ports, tree))
            spent = partial(_of_gateway, process)
            targets.append(Measured(name=name, port=process.port, key=process.key, spent_s=spent))
        if args.ray:
            process = stack.enter_context(gateway_under_ray(home / "ray", mock.ports))
            spent = partial(_of_gateway, process)
            targets.append(Measured(name="under Ray", port=process.port, key=process.key, spent_s=spent))
        for case, words in CASES.items():
            if args.only in case:
                _show(case, _rounds(args.cache, targets, words, args.rounds, args.seconds))


def _rounds(
    programs: Path, targets: Sequence[Measured], words: Sequence[str], rounds: int, seconds: float
) -> Mapping[str, list[tuple[float, Load]]]:
    """Return for each target the microseconds for a request or chunk and the load, by round."""
    found: dict[str, list[tuple[float, Load]]] = defaultdict(list)
    for number in range(rounds + 1):
        first = number % len(targets)
        for target in (*targets[first:], *targets[:first]):
            us, load = _run(programs, target, words, seconds)
            if number:  # the first round warms up
                found[target.name].append((us, load))
    return found


def _run(programs: Path, target: Measured, words: Sequence[str], seconds: float) -> tuple[float, Load]:
    asked = ["--port", str(target.port), "--model", MODEL, "--seconds", str(seconds), "--warm-s", "0.3", *words]
    if target.key is not None:
        asked += ["--key", target.key]
    before: list[float] = []
    load = generate_load(programs, asked, lambda: before.append(target.spent_s()))
    if load.failed:
        raise SystemExit(f"{target.name}: {load.failures}")
    return 1e6 * (target.spent_s() - before[0]) / (load.chunks or load.ok), load


def _show(case: str, found: Mapping[str, list[tuple[float, Load]]]) -> None:
    sys.stdout.write(f"{case}\n")
    for name, rounds in found.items():
        us = statistics.median(us for us, _ in rounds)
        ratio = statistics.median(us / other for (us, _), (other, _) in zip(rounds, found[PEER], strict=True))
        rate = statistics.median((load.chunks or load.ok) / load.seconds for _, load in rounds)
        sys.stdout.write(
            f"    {name:<14}{us:8.1f} us{ratio:8.2f} of the router's{rate:10.0f} a second{_tail(rounds)}\n"
        )
    sys.stdout.flush()


def _tail(rounds: Sequence[tuple[float, Load]]) -> str:
    """Return how much later than the engine sent it a stream's first token came, over all rounds."""
    delays_us = [delay for _, load in rounds for delay in load.first_token_us]
    if not delays_us:
        return ""
    percentiles = statistics.quantiles(delays_us, n=100)
    return f", first token p50 {percentiles[49] / 1000:.2f}, p99 {percentiles[98] / 1000:.2f} ms"


def _of_tree(peer: Peer) -> float:
    return processor_s(tree_of(peer.whole()[0].pid))


def _of_gateway(process: GatewayProcess) -> float:
    return sum(process.processor_s().values())


if __name__ == "__main__":
    main()
