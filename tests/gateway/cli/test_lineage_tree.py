"""Times in a lineage and an origin are shown as times, wherever in the facts they stand."""

from __future__ import annotations

import pytest
from pydantic import JsonValue

from gateway.cli.models.lineage_tree import tree_of
from gateway.cli.models.origin import origin_fields
from gateway.objects.weights.lineage import LineageNodeObject, LineageObject
from registry.lineage.node import NodeKind, NodeState

AT = 1_796_061_266.25
LOAD_TESTS: JsonValue = {"transformers": {"outcome": "served", "reason": "", "tokens_per_s": 7.2, "at": AT}}


@pytest.fixture
def lines() -> list[str]:
    node = LineageNodeObject(
        kind=NodeKind.CHECKPOINT,
        name="support-w8a8-int8-1",
        relation="",
        state=NodeState.PRESENT,
        digest=None,
        at=None,
        by=None,
        facts={"trained_at": AT, "size_bytes": 7, "load_tests": LOAD_TESTS},
        parts=[],
    )
    return [line.plain for line in tree_of(LineageObject(node=node, became=[]))]


def test_a_fact_that_ends_in_at_is_a_time(lines: list[str]) -> None:
    assert "trained 2026-11-30T17:54:26+00:00, size bytes 7" in lines[0]


def test_a_time_within_a_fact_is_a_time_and_what_is_empty_is_left_out(lines: list[str]) -> None:
    told = "load_tests: transformers outcome served, tokens_per_s 7.2, at 2026-11-30T17:54:26+00:00"
    assert lines[1].strip() == told


def test_a_time_within_an_origin_is_a_time() -> None:
    told = "transformers.outcome served, transformers.tokens_per_s 7.2, transformers.at 2026-11-30T17:54:26+00:00"
    assert dict(origin_fields({"load_tests": LOAD_TESTS})) == {"load tests": told}
