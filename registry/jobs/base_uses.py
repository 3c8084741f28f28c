"""The uses of a base model at the moment."""

from __future__ import annotations

import sqlalchemy as sa

from registry import tables
from registry.jobs.job_state import ENDED
from registry.liveness.sleeping_pools import sleeping_pools
from registry.serving.serving_tables import entered_engines, replicas
from registry.states import ReplicaState


def users_of_base(tx: sa.Connection, name: str) -> list[str]:
    """Return what needs the base model *name*, in words."""
    adapters, entered, jobs = tables.adapters, entered_engines, tables.jobs
    present = sa.and_(replicas.c.base == name, replicas.c.state != ReplicaState.GONE)
    reading = sa.and_(jobs.c.state.not_in(ENDED), jobs.c.spec["base"].as_string() == name)
    return [
        *(
            f"adapter {each}"
            for each in tx.execute(sa.select(adapters.c.name).where(adapters.c.base == name)).scalars()
        ),
        *(f"replica {each}" for each in tx.execute(sa.select(replicas.c.id).where(present)).scalars()),
        *(
            f"pool {each}"
            for each in tx.execute(sa.select(sleeping_pools.c.name).where(sleeping_pools.c.base == name)).scalars()
        ),
        *(f"engine {each}" for each in tx.execute(sa.select(entered.c.id).where(entered.c.base == name)).scalars()),
        *(f"job {each}" for each in tx.execute(sa.select(jobs.c.id).where(reading)).scalars()),
    ]
