"""Measure the processor time of an idle gateway process outside of Ray, on SQLite and on PostgreSQL.

    python bench/one_gateway/idle_cost.py --cache .bench [--seconds 10] [--rounds 3]

Milliseconds of processor time a second, of the event loop's thread and of all others, the median of the rounds; the
gateways run side by side. PostgreSQL is a server of our own, started for this. `make natives` compiles the mock engine.
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
from tests.postgres_server import postgres_server

ENGINES: Final = 2
SETTLE_S: Final = 3.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="where the native programs are")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        mock = stack.enter_context(mock_engine(args.cache, ENGINES))
        server = stack.enter_context(postgres_server())
        urls = {"SQLite": f"sqlite:///{home / 'registry.db'}", "PostgreSQL": _database(server.url)}
        gateways = {
            name: stack.enter_context(gateway_process(home / name, url, mock.ports)) for name, url in urls.items()
        }
        time.sleep(SETTLE_S)
        spent = [_spent(gateways, args.seconds) for _ in range(args.rounds)]
    for name in urls:
        loop, others = (statistics.median(each[name][own] for each in spent) for own in (True, False))
        sys.stdout.write(f"{name:<12}{loop + others:6.2f} ms/s: event loop {loop:5.2f}, other threads {others:5.2f}\n")


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
