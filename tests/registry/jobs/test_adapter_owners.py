"""A name of an adapter belongs to the first tenant whose job is for it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from registry.contracts.methods.supervised_spec import SupervisedSpec
from registry.database import Registry
from registry.errors import NameTaken, NotFound
from registry.jobs.adapter_owners import Claim
from registry.types import Base


def test_of_two_claims_at_once_one_is_refused(registry: Registry, base: Base, spec: SupervisedSpec) -> None:
    registry.bases.enter(base)

    def claim(tenant: str) -> str:
        try:
            registry.jobs.create(spec, tenant, Claim(tenant=tenant, shares=False, may_take_any=False))
        except NameTaken:
            return "refused"
        return tenant

    with ThreadPoolExecutor(8) as threads:
        told = list(threads.map(claim, [f"tenant-{number}" for number in range(8)]))
    holder = registry.owners.get(spec.adapter)
    assert holder is not None
    assert sorted(told) == ["refused"] * 7 + [holder.tenant]


def test_an_owner_is_changed_on_record(registry: Registry, spec: SupervisedSpec) -> None:
    with pytest.raises(NotFound, match="no adapter 'support'"):
        registry.owners.change("support", tenant="ann", is_shared=None, actor="root")
    registry.jobs.create(spec, "ann", Claim(tenant="ann", shares=False, may_take_any=False))
    changed = registry.owners.change("support", tenant=None, is_shared=True, actor="root")
    assert (changed.tenant, changed.is_shared) == ("ann", True)
    assert registry.owners.get("support") == changed
    entry = registry.audit.list(limit=1)[0]
    assert (entry.actor, entry.action, entry.subject) == ("root", "adapter.owner", "support")
