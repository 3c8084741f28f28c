"""Adapters of a base are also on replicas that serve them on quantized weights, and the base's own name never is."""

from __future__ import annotations

from dataclasses import replace

from gateway.routing.placement import homes_of, wanted_in
from gateway.routing.readiness import readiness_of
from gateway.routing.route_table import build_table
from registry.states import SlotState
from registry.types import Base, Replica, Slot
from tests.gateway.replica_rows import replica_row
from tests.gateway.routing.test_placement import adapter, names, revision, snapshot

BASES = tuple(
    Base(name=name, path=f"/{name}", digest=name, licence="mit", created_at=1.0, parent=parent)
    for name, parent in (("tiny", None), ("tiny-w8a8-1", "tiny"))
)


def full(name: str, *slots: Slot, capacity: int = 4) -> Replica:
    return replica_row(name, slots=slots, capacity=capacity, pool="full")


def quantized(name: str, *slots: Slot, adapters_of: str = "tiny") -> Replica:
    return replica_row(name, base="tiny-w8a8-1", adapters_of=adapters_of, slots=slots, capacity=4, pool="eight")


READY = Slot(served_name="support@1", state=SlotState.READY)
FAILED = Slot(served_name="support@1", state=SlotState.FAILED, reason="fingerprint_mismatch", message="other effect")


def test_an_adapter_belongs_on_the_replicas_of_its_base_and_on_those_that_serve_its_adapters() -> None:
    eight, plain = quantized("q1"), quantized("q2", adapters_of="")
    at = snapshot([adapter("support")], [revision("support")], [full("r1"), eight, plain])
    assert names(wanted_in(at, full("r1"), warm_since=0.0)) == ["support@1"]
    assert names(wanted_in(at, eight, warm_since=0.0)) == ["support@1"]
    assert names(wanted_in(at, plain, warm_since=0.0)) == []


def test_requests_go_to_a_quantized_replica_only_once_the_adapter_passed_there_and_never_for_the_base() -> None:
    for slot, expected in ((READY, ["q1", "r1"]), (FAILED, ["r1"])):
        at = snapshot([adapter("support")], [revision("support")], [full("r1", READY), quantized("q1", slot)])
        table = build_table(replace(at, bases=BASES))
        assert [each.replica for each in table.endpoints_of("support@1")] == expected
        assert [each.replica for each in table.endpoints_of("tiny")] == ["r1"]
        assert [each.replica for each in table.endpoints_of("tiny-w8a8-1")] == ["q1"]


def test_a_failed_proof_on_quantized_weights_stops_no_rollout_on_the_base_itself() -> None:
    at = snapshot([adapter("support")], [revision("support")], [full("r1", READY), quantized("q1", FAILED)])
    there = readiness_of(at, "tiny", "support@1")
    assert (there.holders, there.missing, there.failures) == (("r1",), (), ())
    assert there.is_everywhere


def test_where_only_quantized_replicas_take_adapters_they_decide() -> None:
    for others in ((), (full("r1", capacity=0),)):
        failed = snapshot([adapter("support")], [revision("support")], [*others, quantized("q1", FAILED)])
        assert readiness_of(failed, "tiny", "support@1").failure == "fingerprint_mismatch"
        passed = snapshot([adapter("support")], [revision("support")], [*others, quantized("q1", READY)])
        assert homes_of(passed, "support@1", "tiny") == {"q1"}
        assert readiness_of(passed, "tiny", "support@1").is_everywhere
