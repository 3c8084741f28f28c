"""Which replicas to pass over or to spare, by how this gateway's own requests fared there. Pure.

Ejection with a longer pause each time, a bound on how many are ejected, and slow start are those of Envoy, as it
documents them (Architecture overview: Outlier detection; Slow start mode). Two rules are our own: the half-open probe
after a pause, and the reduced share of a replica whose first bytes come late, which still gets requests so that it can
prove to be well again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from statistics import median_low
from typing import Final, NamedTuple

from gateway.routing.routing import Endpoint
from gateway.settings import GatewaySettings

_FORGIVEN_AFTER_S: Final = 10.0
"""Each such time without an ejection takes one doubling off the next pause."""
_NEW_WEIGHT: Final = 0.1
"""Weight of the newest first byte in the moving average."""
_LEAST_SAMPLES: Final = 10
"""How many first bytes a replica needs before it is compared."""
_LEAST_PEERS: Final = 3
"""How many replicas of a pool must be comparable before one can be late: of two it is unclear which one is."""
_COMPARE_EVERY_S: Final = 1.0
_STALE_AFTER_S: Final = 30.0
"""A replica that answered nothing for so long is not compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthPolicy:
    """How failures and late first bytes lower a replica's share."""

    pause_s: float = 1.0
    """How long a replica is passed over after its first failure; doubled with each further ejection."""
    longest_pause_s: float = 30.0
    errors_in_a_row: int = 3
    """So many error answers one after another count as a failure of the replica, not of what was asked."""
    most_ejected: float = 0.5
    """Part of all replicas that may be ejected at a time; one always may."""
    slow_start_s: float = 10.0
    """How long a replica that is new takes less than its share."""
    least_share: float = 0.1
    """Where slow start begins, and the least that a late replica gets."""
    late_factor: float = 5.0
    """A replica is late when its first bytes take so many times as long as the median of its pool."""


def policy_of(settings: GatewaySettings) -> HealthPolicy:
    """Return the policy that the settings ask for."""
    return HealthPolicy(
        pause_s=settings.eject_s,
        longest_pause_s=settings.eject_longest_s,
        errors_in_a_row=settings.eject_errors,
        most_ejected=settings.eject_most,
        slow_start_s=settings.slow_start_s,
        late_factor=settings.late_factor,
    )


@dataclass(slots=True)
class _Record:
    """The record of one replica."""

    pool: str = ""
    doublings: int = 0
    errors: int = 0
    """Number of error answers in a row."""
    ejected_at: float = 0.0
    until: float | None = None
    """End of its pause; None while it takes requests."""
    probed_until: float = 0.0
    """Until then the last probe may still be answered."""
    warm_from: float = 0.0
    warm_s: float = 0.0
    back_at: float = 0.0
    first_byte_s: float = 0.0
    samples: int = 0
    answered_at: float = 0.0
    promptness: float = 1.0


class FirstByte(NamedTuple):
    """The first byte of a replica's answer."""

    replica: str
    took_s: float
    """Seconds since the replica was asked."""
    at: float
    """Monotonic."""


class ReplicaHealth:
    """Decides for each replica which share of its traffic it should get."""

    def __init__(self, policy: HealthPolicy | None = None) -> None:
        self._policy = policy or HealthPolicy()
        self._records: dict[str, _Record] = {}
        self._has_seen_a_table = False
        self._compared_at = 0.0
        self.impaired: dict[str, _Record] = {}
        """The replicas whose share may be below 1; callers read only the keys."""
        self.ejections: Counter[str] = Counter()
        """How often one of a pool's replicas was ejected, pool by pool."""
        self.first_bytes: list[FirstByte] = []
        """The latest first bytes, which `judge_answers` looks at: no client waits for that."""
        self.changes = 0
        """Counts ejections, returns, arrivals, comparisons: while it is the same, shares move by slow start only."""

    def failed(self, replica: str, now: float, *, alive: bool = False) -> None:
        """Eject a replica that did not connect, was cut off or was silent for too long.

        *alive*: the replica answered, but with an error status, which ejects only after several in a row, as the
        request may be to blame. During a pause nothing is counted: such failures are of requests from before it.
        """
        self.judge_answers()  # these came before the failure
        record = self._record(replica)
        record.errors += 1
        if record.until is not None and now < record.until:
            return
        if alive and record.until is None and record.errors < self._policy.errors_in_a_row:
            return
        if record.until is None:
            # Only time since the replica came back forgives; a failed probe, whose `until` is set, gets nothing off.
            record.doublings = max(0, record.doublings - int((now - record.back_at) / _FORGIVEN_AFTER_S))
            if not self._may_eject():
                return
        self._eject(replica, record, now)

    def judge_answers(self) -> None:
        """Look at the first bytes that came since the last call, in their order."""
        first_bytes, self.first_bytes = self.first_bytes, []
        for first_byte in first_bytes:
            self.answered(*first_byte)

    def answered(self, replica: str, first_byte_s: float, now: float) -> None:
        """Note a first byte; a replica that was asked since its ejection is back, with slow start."""
        record = self._record(replica)
        record.errors = 0
        weight = _NEW_WEIGHT if record.samples else 1.0
        record.first_byte_s += weight * (first_byte_s - record.first_byte_s)
        record.samples += 1
        record.answered_at = now
        # The difference is when the request was sent; answers to earlier ones prove nothing about the time since.
        if record.until is not None and now - first_byte_s >= record.ejected_at:
            pause_s = record.until - record.ejected_at
            record.until = None
            record.back_at = now
            self._warm(replica, record, min(self._policy.slow_start_s, 2 * pause_s), now)
        if now - self._compared_at >= _COMPARE_EVERY_S:
            self._compared_at = now
            self._compare(now)

    def appeared(self, endpoints: Collection[Endpoint], now: float) -> None:
        """Take over the ready replicas of a new table: a new one starts slowly, one that is gone is forgotten.

        The replicas of the first table are not new: this gateway is.
        """
        pools = {endpoint.replica: endpoint.pool for endpoint in endpoints}
        for replica in self._records.keys() - pools.keys():
            del self._records[replica]
            self.impaired.pop(replica, None)
        for replica in sorted(pools.keys() - self._records.keys()):
            record = self._records[replica] = _Record(back_at=now)
            if self._has_seen_a_table:
                self._warm(replica, record, self._policy.slow_start_s, now)
        for replica, pool in pools.items():
            self._records[replica].pool = pool
        self._has_seen_a_table = self._has_seen_a_table or bool(pools)
        self.changes += 1

    def share(self, replica: str, now: float) -> float:
        """Return the share of a replica: 0 if ejected, below 1 in slow start or when late, else 1."""
        record = self.impaired.get(replica)
        if record is None:
            return 1.0
        if record.until is not None:
            return 0.0
        share = min(self._warmth(record, now), record.promptness)
        # The replica leaves `impaired`: while that is empty, `choose` asks for no shares.
        if share >= 1.0:
            del self.impaired[replica]
        return share

    def shares(self, now: float) -> Mapping[str, float]:
        """Return the shares that are below 1."""
        found = {replica: self.share(replica, now) for replica in list(self.impaired)}
        return {replica: share for replica, share in found.items() if share < 1.0}

    def take_probe(self, replica: str, now: float) -> bool:
        """Return True once after each pause of an ejected replica: this request tries whether the replica is back.

        A probe without an answer for as long as the pause was is given up, and the next request is a probe.
        """
        record = self.impaired.get(replica)
        if record is None or record.until is None or now < max(record.until, record.probed_until):
            return False
        record.probed_until = now + (record.until - record.ejected_at)
        return True

    def _record(self, replica: str) -> _Record:
        return self._records.setdefault(replica, _Record())

    def _may_eject(self) -> bool:
        ejected = sum(record.until is not None for record in self.impaired.values())
        return ejected == 0 or ejected + 1 <= self._policy.most_ejected * len(self._records)

    def _eject(self, replica: str, record: _Record, now: float) -> None:
        pause_s = min(self._policy.pause_s * 2.0**record.doublings, self._policy.longest_pause_s)
        # Doublings beyond the longest pause would change nothing but how long they take to be forgiven.
        if pause_s < self._policy.longest_pause_s:
            record.doublings += 1
        record.ejected_at = now
        record.until = now + pause_s
        record.errors = 0
        self.impaired[replica] = record
        self.ejections[record.pool] += 1
        self.changes += 1

    def _warm(self, replica: str, record: _Record, seconds: float, now: float) -> None:
        record.warm_from, record.warm_s = now, seconds
        self.impaired[replica] = record
        self.changes += 1

    def _warmth(self, record: _Record, now: float) -> float:
        """Return Envoy's slow start with aggression 1: the part of the window that is over, at least `least_share`."""
        if now >= record.warm_from + record.warm_s:
            return 1.0
        return max(self._policy.least_share, (now - record.warm_from) / record.warm_s)

    def _compare(self, now: float) -> None:
        """Set every replica's promptness: 1 up to `late_factor` times the median of its pool, less above that."""
        pools: dict[str, list[tuple[str, _Record]]] = defaultdict(list)
        for replica, record in self._records.items():
            record.promptness = 1.0
            if record.samples >= _LEAST_SAMPLES and now - record.answered_at < _STALE_AFTER_S:
                pools[record.pool].append((replica, record))
        for peers in pools.values():
            if len(peers) < _LEAST_PEERS:
                continue
            # By the lower median, the bound follows the quick replicas also where half of the peers are late.
            bound_s = self._policy.late_factor * median_low(record.first_byte_s for _, record in peers)
            for replica, record in peers:
                if record.first_byte_s > bound_s:
                    record.promptness = max(self._policy.least_share, bound_s / record.first_byte_s)
                    self.impaired[replica] = record
        self.changes += 1
