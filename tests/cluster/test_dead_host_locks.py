"""The transaction of a host that lost power, whose locks PostgreSQL would keep for two hours by default."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from registry.transactions import open_engine
from tests.cluster.lab import Lab
from tests.waiting import wait_for

pytestmark = pytest.mark.cluster
HOLD = """
import sys, time
import sqlalchemy as sa
from registry.transactions import open_engine
with open_engine(sys.argv[1]).begin() as tx:
    tx.execute(sa.text("UPDATE held SET number = number + 1"))
    print("held", flush=True)
    time.sleep(3600)
"""


def test_the_locks_of_a_dead_host_are_free_before_others_stop_waiting(bridge: Lab, database: sa.URL) -> None:
    url = database.render_as_string(hide_password=False)
    engine = open_engine(url)
    with engine.begin() as tx:
        tx.execute(sa.text("CREATE TABLE held (number int)"))
        tx.execute(sa.text("INSERT INTO held VALUES (0)"))
    host = bridge.host("writer", {})
    host.begin("env", f"PYTHONPATH={Path.cwd()}", sys.executable, "-c", HOLD, url, log="held.log")
    wait_for(lambda: "held" in host.log("held.log"))
    host.end()
    with engine.begin() as tx:  # waits for the lock, for 10 s at most
        tx.execute(sa.text("UPDATE held SET number = number + 10"))
        assert tx.execute(sa.text("SELECT number FROM held")).scalar_one() == 10
        tx.execute(sa.text("DROP TABLE held"))  # Lorry refuses a database with tables of others
    engine.dispose()
