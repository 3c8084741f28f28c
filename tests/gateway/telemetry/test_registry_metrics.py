"""The figures of jobs, replicas, disks and the registry itself, as a scrape shows them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.settings import GatewaySettings
from registry.contracts.publish_spec import PublishSpec
from registry.database import Registry
from registry.jobs.job import JobError
from registry.jobs.job_state import JobState
from registry.jobs.scheduling.room import TrainerWorker
from registry.states import ReplicaState, SlotState
from registry.types import Slot
from tests.clock import Clock
from tests.gateway.replica_rows import replica_row
from tests.gateway.served import ServedGateway
from tests.waiting import wait_for

SPEC = PublishSpec(base="tiny", base_digest="0" * 64, adapter="support", artifact="1" * 64)


def scraped(gateway: ServedGateway, family: str) -> set[str]:
    """The samples of a family, in Prometheus' text."""
    lines = gateway.client.get("/metrics").text.splitlines()
    return {line for line in lines if line.startswith((f"{family}{{", f"{family} "))}


@pytest.fixture
def gateway(two_revisions: Registry, tmp_path: Path) -> Iterator[ServedGateway]:
    settings = GatewaySettings(route_refresh_s=0.05)
    with ServedGateway(settings, two_revisions, home=tmp_path) as served:
        yield served


def test_jobs_are_counted_by_state_and_failures_by_code(
    gateway: ServedGateway, two_revisions: Registry, clock: Clock
) -> None:
    registry = two_revisions
    assert scraped(gateway, "gateway_job_waiting_since_timestamp_seconds") == set()
    registry.workers.report(TrainerWorker(name="w", device="cpu", total_bytes=4_000, places=2))
    for _ in range(3):
        registry.jobs.create(SPEC, "ann")
    lease = registry.jobs.claim("w", 60.0)
    assert lease is not None
    registry.jobs.finish(lease, JobState.FAILED, JobError(code="out_of_memory", message="too big"))
    held = registry.jobs.claim("w", 60.0)
    assert held is not None
    registry.jobs.note_progress(held, trained_tokens=70, estimated_finish=clock() + 30.0)
    waiting = registry.jobs.list()[0]

    states = {line for line in scraped(gateway, "gateway_jobs") if not line.endswith(" 0.0")}
    assert states == {f'gateway_jobs{{state="{state}"}} 1.0' for state in ("failed", "queued", "running")}
    assert scraped(gateway, "gateway_job_failures_total") == {'gateway_job_failures_total{code="out_of_memory"} 1.0'}
    (since,) = scraped(gateway, "gateway_job_waiting_since_timestamp_seconds")
    assert float(since.split()[1]) == waiting.queued_at
    tokens = {f'gateway_running_job_trained_tokens{{job="{held.job_id}",method="publish"}} 70.0'}
    assert scraped(gateway, "gateway_running_job_trained_tokens") == tokens
    (finish,) = scraped(gateway, "gateway_running_job_finish_timestamp_seconds")
    assert float(finish.split()[1]) == clock() + 30.0
    assert scraped(gateway, "gateway_worker_places") == {'gateway_worker_places{worker="w"} 2.0'}
    assert scraped(gateway, "gateway_worker_memory_bytes") == {'gateway_worker_memory_bytes{worker="w"} 4000.0'}
    assert scraped(gateway, "gateway_worker_free_bytes") == {'gateway_worker_free_bytes{worker="w"} 4000.0'}


def test_replicas_show_their_state_their_revisions_and_who_has_an_adapter(
    gateway: ServedGateway, two_revisions: Registry
) -> None:
    assert scraped(gateway, "gateway_adapter_replicas") == {
        'gateway_adapter_replicas{adapter="support",revision="support@1",side="stable"} 1.0'
    }
    slots = (
        Slot(served_name="support@1", state=SlotState.FAILED),
        Slot(served_name="support@2", state=SlotState.LOADING),
    )
    two_revisions.replicas.report(
        replica_row("r1", pool="small", state=ReplicaState.UNHEALTHY, slots=slots, load=3, memory_bytes=1_000)
    )
    wait_for(lambda: not gateway.gateway.feed.table.endpoints)
    assert scraped(gateway, "gateway_adapter_replicas") == {
        'gateway_adapter_replicas{adapter="support",revision="support@1",side="stable"} 0.0'
    }
    labels = 'base="tiny",engine="transformers",pool="small"'
    assert f'gateway_replicas{{{labels},state="unhealthy"}} 1.0' in scraped(gateway, "gateway_replicas")
    assert f'gateway_replicas{{{labels},state="ready"}} 0.0' in scraped(gateway, "gateway_replicas")
    revisions = {line for line in scraped(gateway, "gateway_replica_revisions") if not line.endswith(" 0.0")}
    assert revisions == {
        f'gateway_replica_revisions{{pool="small",replica="r1",state="{state}"}} 1.0' for state in ("failed", "loading")
    }
    assert scraped(gateway, "gateway_replica_load") == {'gateway_replica_load{pool="small",replica="r1"} 3.0'}
    memory = {'gateway_replica_memory_bytes{pool="small",replica="r1"} 1000.0'}
    assert scraped(gateway, "gateway_replica_memory_bytes") == memory
    assert len(scraped(gateway, "gateway_replica_heartbeat_timestamp_seconds")) == 1


def test_disks_are_shown_and_a_registry_that_is_away_leaves_the_last_figures(
    gateway: ServedGateway, two_revisions: Registry
) -> None:
    two_revisions.jobs.create(SPEC, "ann")
    for family in ("gateway_disk_size_bytes", "gateway_disk_free_bytes"):
        assert {line.split()[0] for line in scraped(gateway, family)} == {
            f'{family}{{folder="{folder}"}}' for folder in ("artifacts", "home")
        }
    assert scraped(gateway, "gateway_registry_up") == {"gateway_registry_up 1.0"}
    with two_revisions.transactions.write() as tx:
        tx.exec_driver_sql("ALTER TABLE rollout_events RENAME TO away")
    assert scraped(gateway, "gateway_registry_up") == {"gateway_registry_up 0.0"}
    assert 'gateway_jobs{state="queued"} 1.0' in scraped(gateway, "gateway_jobs")
    with two_revisions.transactions.write() as tx:
        tx.exec_driver_sql("ALTER TABLE away RENAME TO rollout_events")
    assert scraped(gateway, "gateway_registry_up") == {"gateway_registry_up 1.0"}
