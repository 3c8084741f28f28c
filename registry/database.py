"""The registry as one object: schema, stores, artifacts, and snapshots of what routes are derived from."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from registry import tables
from registry.adapters import AdapterStore, RevisionReader, served_adapters
from registry.artifacts import ArtifactStore
from registry.audit import AuditStore
from registry.bases import BaseStore, all_bases
from registry.batches.batch_store import BatchStore, batches_reading
from registry.batches.deliveries import BATCH_ENDS
from registry.changes import KeptParts
from registry.deliveries import DeliveryStore
from registry.errors import NotFound
from registry.evaluations.evaluation_store import EvaluationStore
from registry.evaluations.suite_store import SuiteStore
from registry.files.file_store import FileStore
from registry.files.report_store import ReportStore
from registry.files.upload_store import UploadStore
from registry.files.upload_tables import upload_parts
from registry.jobs.adapter_owners import AdapterOwner, AdapterOwnerStore, all_owners
from registry.jobs.checkpoint_permissions import CheckpointPermission, CheckpointPermissionStore, all_permissions
from registry.jobs.deliveries import JOB_ENDS
from registry.jobs.job_figures import JobFigureStore
from registry.jobs.job_store import JobStore
from registry.jobs.measurements import JobMeasurements
from registry.jobs.read_by_jobs import folders_read, jobs_reading
from registry.jobs.scheduling.worker_store import WorkerStore
from registry.jobs.served_checkpoints import ServedCheckpointStore, ready_checkpoints, stored_artifacts
from registry.keys import KeyStore
from registry.liveness.sleeping_pools import SleepingPool, SleepingPoolStore, all_sleeping_pools
from registry.responses.response_store import ResponseStore
from registry.rollouts.deliveries import ROLLOUT_MOVES
from registry.rollouts.feedback import FeedbackStore
from registry.rollouts.forced import ForcedSide, ForcedSideStore, all_forced_sides
from registry.rollouts.rollout import Rollout
from registry.rollouts.rollout_moves import open_rollouts, promoted_since
from registry.rollouts.rollout_store import RolloutStore
from registry.rollouts.tally_store import TallyStore
from registry.schema import check_current
from registry.serving.entered_engines import EnteredEngineStore
from registry.serving.replica_store import ReplicaReader, ReplicaStore, with_passing_fields
from registry.serving.revision_uses import UseReader, UseStore
from registry.settings import RegistrySettings
from registry.stores.choice import build_store
from registry.transactions import Transactions, open_engine, shown_url
from registry.types import Adapter, Base, Replica, Revision, ServedCheckpoint, Use
from registry.wording.id_prefixes import IdPrefixes


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The state of the registry at one moment."""

    bases: tuple[Base, ...]
    adapters: tuple[Adapter, ...]
    """Adapters that answer requests: reward models are not part of what is routed, placed and rolled out."""
    revisions: tuple[Revision, ...]
    """Ready revisions of these adapters only, without their provenance: a snapshot is taken several times a second."""
    rollouts: tuple[Rollout, ...]
    """Open rollouts only."""
    watched: tuple[Rollout, ...]
    """For each adapter the rollout that made its present stable revision, if that was within the watched time."""
    forced: tuple[ForcedSide, ...]
    """Conversations that an operator keeps on one side of a rollout."""
    replicas: tuple[Replica, ...]
    """Replicas in any state but `gone`."""
    owners: tuple[AdapterOwner, ...] = ()
    """Owners of adapters, and of names that are claimed."""
    checkpoints: tuple[ServedCheckpoint, ...] = ()
    """Ready checkpoints of jobs, which answer by their own names only."""
    permissions: tuple[CheckpointPermission, ...] = ()
    """Revisions that tenants beside their owner may use."""
    uses: tuple[Use, ...] = ()
    """The use of revisions as gateways reported it."""
    sleeping_pools: tuple[SleepingPool, ...] = ()
    """Pools that may have no replica."""


class Registry:
    """The database and the artifacts; methods block and are safe to call from many threads, except as they state."""

    def __init__(self, transactions: Transactions, settings: RegistrySettings) -> None:
        self.organisation = settings.organisation
        self.picture_folder = settings.picture_folder
        self.transactions = transactions
        self._kept = KeptParts()
        self._replica_reader = ReplicaReader()
        self._revision_reader = RevisionReader()
        self._use_reader = UseReader()
        self.artifacts: ArtifactStore = build_store(settings, transactions, self.referenced_artifacts)
        self.bases = BaseStore(transactions)
        self.adapters = AdapterStore(transactions)
        self.owners = AdapterOwnerStore(transactions)
        self.rollouts = RolloutStore(transactions)
        self.rollout_deliveries = DeliveryStore(transactions, ROLLOUT_MOVES)
        self.jobs = JobStore(transactions)
        self.job_figures = JobFigureStore(transactions)
        self.workers = WorkerStore(transactions)
        self.measurements = JobMeasurements(transactions)
        self.checkpoints = ServedCheckpointStore(transactions)
        self.job_deliveries = DeliveryStore(transactions, JOB_ENDS)
        self.permissions = CheckpointPermissionStore(transactions)
        self.files = FileStore(transactions, self.artifacts, _readers_of)
        self.reports = ReportStore(transactions)
        self.uploads = UploadStore(transactions, self.artifacts)
        self.batches = BatchStore(transactions, self.artifacts)
        self.batch_deliveries = DeliveryStore(transactions, BATCH_ENDS)
        self.suites = SuiteStore(transactions)
        self.evaluations = EvaluationStore(transactions)
        self.replicas = ReplicaStore(transactions)
        self.sleeping_pools = SleepingPoolStore(transactions)
        self.entered = EnteredEngineStore(transactions)
        self.uses = UseStore(transactions)
        self.audit = AuditStore(transactions)
        self.tallies = TallyStore(transactions)
        self.feedback = FeedbackStore(transactions)
        self.forced_sides = ForcedSideStore(transactions)
        self.keys = KeyStore(transactions)
        self.responses = ResponseStore(
            transactions, settings.responses_per_tenant, settings.response_bytes_per_tenant, settings.response_days
        )
        self.ids = IdPrefixes(transactions)

    def snapshot(self, watch_s: float = 0.0) -> Snapshot:
        """Read everything that routes are derived from, as of one moment.

        Promotions are `watched` for *watch_s* seconds. Parts that did not change since the last snapshot are the same
        objects and are not read again.
        """
        with self.transactions.read() as tx:
            parts = self._kept.in_transaction(tx)
            return Snapshot(
                bases=parts.get("bases", all_bases),
                adapters=parts.get("adapters", served_adapters),
                owners=parts.get("adapter_owners", all_owners),
                permissions=parts.get("checkpoint_permissions", all_permissions),
                revisions=parts.get("revisions", self._revision_reader.read),
                checkpoints=parts.get("served_checkpoints", ready_checkpoints),
                rollouts=parts.get("rollouts", open_rollouts),
                # No change number covers these: a promotion leaves the watched time without a write.
                watched=tuple(promoted_since(tx, self.transactions.now() - watch_s)),
                forced=parts.get("forced_sides", all_forced_sides),
                sleeping_pools=parts.get("sleeping_pools", all_sleeping_pools),
                replicas=with_passing_fields(tx, parts.get("replicas", self._replica_reader.read)),
                uses=tuple(self._use_reader.read(tx, self.transactions.now())),
            )

    def placement_snapshot(self, base: str, adapters_of: str) -> Snapshot:
        """Read what the placement in replicas of *base* with adapters of *adapters_of* is derived from, no more.

        A large fleet has many replicas, each of which asks.
        """
        with self.transactions.read() as tx:
            parts = self._kept.in_transaction(tx)
            replicas = parts.get("replicas", partial(self._replica_reader.read, base=base), base)
            return Snapshot(
                bases=(),
                adapters=parts.get("adapters", partial(served_adapters, base=adapters_of), adapters_of),
                revisions=parts.get("revisions", partial(self._revision_reader.read, base=adapters_of), adapters_of),
                checkpoints=parts.get("served_checkpoints", ready_checkpoints),
                rollouts=parts.get("rollouts", open_rollouts),
                watched=(),
                forced=(),
                replicas=with_passing_fields(tx, replicas, base),
                uses=tuple(self._use_reader.read(tx, self.transactions.now())),
            )

    def changes(self) -> Mapping[str, int]:
        """Return the change number of each table of a snapshot, and that of the keys; cheap enough to poll.

        Uses are counted where requests wait for a revision, and not where one was served.
        """
        return self.transactions.changes()

    def changes_at_once(self) -> Mapping[str, int] | None:
        """Return the same as `changes` without a wait, None where that is not possible."""
        return self.transactions.changes_at_once()

    def recover(self) -> list[str]:
        """Remove the artifacts that a killed publisher left behind, and return their digests."""
        return self.artifacts.recover()

    def at_hand(self, base: Base) -> Base:
        """Return *base* with a path on this machine: where its folder is elsewhere, its artifact is fetched.

        Raises `ArtifactCorrupt`, `ArtifactsUnavailable` and `StorageFull`; a folder that is nowhere keeps its path.
        """
        if Path(base.path).is_dir():
            return base
        try:
            return replace(base, path=str(self.artifacts.folder(base.digest)))
        except NotFound:
            return base

    def remove_expired(self) -> None:
        """Remove the files and responses whose time is over, and what uploads that have ended left."""
        self.files.remove_expired()
        self.uploads.remove_ended()
        self.responses.forget_old()

    def close(self) -> None:
        """Close every connection."""
        self.transactions.close()

    def referenced_artifacts(self) -> set[str]:
        """Return the digests of all artifacts that rows refer to."""
        # A folder that waits for its publication has no revision yet; its job refers to it.
        revisions, files = sa.select(tables.revisions.c.artifact), sa.select(tables.files.c.digest)
        # A base model whose place is not a path is in the bucket, whether a job made it or it was pulled.
        is_stored = sa.or_(tables.bases.c.parent.is_not(None), tables.bases.c.path.not_like("/%"))
        checkpoints = sa.select(tables.bases.c.digest).where(is_stored)
        kept = (files, sa.select(upload_parts.c.digest), checkpoints, stored_artifacts())
        with self.transactions.read() as tx:
            return set(tx.execute(revisions.union(*kept)).scalars()) | folders_read(tx)


def _readers_of(tx: sa.Connection, file_id: str) -> list[str]:
    """Return what reads a file and has not ended: jobs and batches."""
    return [*jobs_reading(tx, file_id), *batches_reading(tx, file_id)]


def open_registry(
    settings: RegistrySettings,
    now: Callable[[], float] = time.time,
    steady: Callable[[], float] = time.monotonic,
) -> Registry:
    """Open the registry and remove what killed publishers left.

    Raises `SchemaTooNew`, `SchemaTooOld`, `SchemaForeign`, or `RegistryUnavailable`.
    """
    engine = open_engine(settings.url)
    transactions = Transactions(engine, now, steady)
    try:
        with transactions.read() as tx:
            check_current(tx, shown_url(engine))
        registry = Registry(transactions, settings)
        registry.recover()
        registry.bases.locate_checkpoints(registry.artifacts.location)
    except BaseException:
        transactions.close()
        raise
    return registry
