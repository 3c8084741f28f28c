"""The suite that a name in a request stands for, and the draft of its evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evaluation.builtin import BUILTIN, builtin_suite
from evaluation.errors import SuiteInvalid
from evaluation.suite import Suite
from evaluation.suite_files import parse_suite, suite_from
from gateway.errors import InvalidRequest, ModelNotAllowed, ModelNotFound, NothingStable
from gateway.keys.access import check_model, unknown_model
from gateway.keys.caller import Caller
from gateway.routing.pinned_weights import pin
from gateway.routing.routing import RouteTable, resolve
from registry.database import Registry
from registry.errors import ArtifactCorrupt, NotFound
from registry.evaluations.evaluation import PinnedModel
from registry.evaluations.suite_store import StoredSuite
from registry.rollouts.gate import SUITE_DIGEST
from registry.rollouts.tally import Side

_FILE: str = "file-"


def find_suite(registry: Registry, caller: Caller, asked: str | Mapping[str, Any], param: str) -> Suite:
    """Return the suite of `builtin:NAME`, of a digest, of the id of an uploaded file, or written out as an object.

    Raises `InvalidRequest`, whose message begins with *param*.
    """
    try:
        if not isinstance(asked, str):
            return suite_from(asked)
        if asked.startswith(BUILTIN):
            return builtin_suite(asked.removeprefix(BUILTIN))
        if asked.startswith(_FILE):
            file = registry.files.get(asked, caller.sees)
            return parse_suite(file.filename, registry.files.path(file).read_bytes())
        if SUITE_DIGEST.fullmatch(asked):
            return Suite.model_validate_json(registry.suites.get(asked, caller.sees).content)
    except (SuiteInvalid, NotFound, ArtifactCorrupt) as exc:
        raise InvalidRequest(f"{param}: {exc}", param=param) from exc
    raise InvalidRequest(
        f"{param}: {asked[:64]!r} is none of builtin:NAME, a stored suite's digest, and an uploaded file's id",
        param=param,
    )


def keep_suite(registry: Registry, suite: Suite, tenant: str) -> None:
    """Store *suite* for *tenant*."""
    stored = StoredSuite(digest=suite.digest, name=suite.name, content=suite.canonical(), rows=len(suite.rows))
    registry.suites.put(stored, tenant)


def pin_for(registry: Registry, caller: Caller, table: RouteTable, name: str, param: str = "model") -> PinnedModel:
    """Return the weights that *name* stands for; `ModelNotFound` and the like where *caller* may not ask it."""
    check_model(caller, table, name)
    try:
        # While a rollout is open the stable side is measured, whatever a hash would choose.
        resolve(table, name, "", Side.STABLE)
        return pin(registry, name)
    except ModelNotFound as exc:
        raise unknown_model(caller, table, name) from exc
    except (NotFound, NothingStable) as exc:
        raise InvalidRequest(f"{param}: {exc}", param=param) from exc


def judges_for(registry: Registry, caller: Caller, table: RouteTable, suite: Suite) -> dict[str, PinnedModel]:
    """Return the weights of every judge that *suite* names."""
    try:
        return {name: pin_for(registry, caller, table, name, "suite") for name in sorted(suite.asked_models())}
    except (ModelNotFound, ModelNotAllowed) as exc:
        raise InvalidRequest(f"suite: the judge: {exc}", param="suite") from exc
