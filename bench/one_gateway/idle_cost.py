"""Measure the processor time of an idle gateway process outside of Ray, on SQLite and on PostgreSQL.

    python bench/one_gateway/idle_cost.py --cache .bench [--seconds 10] [--rounds 3] [--ray]

Milliseconds of processor time a second, of the main thread and of all others, the median of the rounds; the gateways
run side by side. PostgreSQL is a server of our own, started for this. `--ray` adds the gateway of a `lorry up` on
SQLite, whose event loop is not the main thread, and lists its threads. `make natives` compiles the mock engine.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.comparison.native import mock_engine
from bench.one_gateway.process import GatewayProcess, gateway_process
from bench.one_gateway.under_ray import gateway_under_ray
from tests.postgres_server import postgres_server

ENGINES: Final = 2
SETTLE_S: Final = 3.0
UNDER_RAY: Final = "SQLite, Ray"
LEAST_SHOWN: Final = 0.05
"""Milliseconds a second of a thread below which it is not listed."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="where the native programs are")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ray", action="store_true", help="also the gateway of a `lorry up`")
    args = parser.parse_args()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        mock = stack.enter_context(mock_engine(args.cache, ENGINES))
        server = stack.enter_context(postgres_server())
        urls = {"SQLite": f"sqlite:///{home / 'registry.db'}", "PostgreSQL": _database(server.url)}
        gateways = {
            name: stack.enter_context(gateway_process(home / name, url, mock.ports)) for name, url in urls.items()
        }
        if args.ray:
            gateways[UNDER_RAY] = stack.enter_context(gateway_under_ray(home / "ray", mock.ports))
        time.sleep(SETTLE_S)
        before, began = _threads_of(gateways), time.monotonic()
        spent = [_spent(gateways, args.seconds) for _ in range(args.rounds)]
        threads, seconds = _threads_of(gateways), time.monotonic() - began
    for name in gateways:
        loop, others = (statistics.median(each[name][own] for each in spent) for own in (True, False))
        sys.stdout.write(f"{name:<12}{loop + others:6.2f} ms/s: main thread {loop:5.2f}, others {others:5.2f}\n")
    for name, spent_s in sorted(threads.items(), key=lambda each: each[1] - before.get(each[0], 0.0), reverse=True):
        share = 1e3 * (spent_s - before.get(name, 0.0)) / seconds
        if share >= LEAST_SHOWN:
            sys.stdout.write(f"    {share:6.2f} ms/s {name}\n")


def _threads_of(gateways: dict[str, GatewayProcess]) -> dict[str, float]:
    return gateways[UNDER_RAY].threads_s() if UNDER_RAY in gateways else {}


def _spent(gateways: dict[str, GatewayProcess], seconds: float) -> dict[str, dict[bool, float]]:
    before = {name: gateway.processor_s() for name, gateway in gateways.items()}
    time.sleep(seconds)
    after = {name: gateway.processor_s() for name, gateway in gateways.items()}
    return {
        name: {own: 1e3 * (after[name][own] - before[name][own]) / seconds for own in (True, False)}
        for name in gateways
    }


def _database(url: sa.URL) -> str:
    server = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE idle_gateway")
    server.dispose()
    return url.set(database="idle_gateway").render_as_string(hide_password=False)


if __name__ == "__main__":
    main()
