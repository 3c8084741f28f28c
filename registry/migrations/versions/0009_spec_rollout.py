"""The rollout of a job's spec becomes an object of its own instead of four fields that begin with `rollout_`."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

PREFIX = "rollout_"
FIELDS = ("steps", "every_s", "guardrails", "shadow_judge")


def upgrade() -> None:
    """Rewrite the specs of fine-tuning jobs, whatever their state; other kinds never had these fields."""
    jobs = sa.table("jobs", sa.column("id", sa.Text), sa.column("spec", sa.JSON))
    tx = op.get_bind()
    change = sa.update(jobs).where(jobs.c.id == sa.bindparam("job_id")).values(spec=sa.bindparam("nested"))
    rows = tx.execute(sa.select(jobs.c.id, jobs.c.spec)).all()
    # Times of the other columns stay: the update touches `spec` alone, and leases go on.
    changed = [{"job_id": job_id, "nested": nested(spec)} for job_id, spec in rows if spec["method"] == "supervised"]
    if changed:
        tx.execute(change, changed)


def nested(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return *spec* with the fields of its rollout, which older rows may lack, below `rollout`."""
    kept = {name: value for name, value in spec.items() if not name.startswith(PREFIX)}
    plan = {field: spec.get(PREFIX + field) for field in FIELDS}
    return kept | {"rollout": None if plan["steps"] is None else plan}
