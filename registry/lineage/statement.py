"""A lineage as an in-toto Statement v1 with a predicate of SLSA provenance v1.

Forms: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md and https://slsa.dev/spec/v1.0/provenance.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from registry.artifacts import folder_files
from registry.database import Registry
from registry.disk import sha256_of
from registry.errors import NotServable
from registry.lineage.lineage import lineage_of
from registry.lineage.node import LineageNode, NodeKind, NodeState

STATEMENT: Final = "https://in-toto.io/Statement/v1"
PREDICATE: Final = "https://slsa.dev/provenance/v1"
FOLDER_DIGEST: Final = "lorryFolderSha256"
"""Algorithm of a folder's digest: the sha256 of its manifest, see `registry.artifacts.folder_digest`."""
_EXTERNAL: Final = ("method", "source", "scheme", "seed", "hyperparameters")
_INTERNAL: Final = ("machine", "attempts")


def statement_of(registry: Registry, name: str) -> dict[str, Any]:
    """Return the statement about the files of a revision, a step, a checkpoint or a base model.

    `NotFound`; `NotServable` for what has no files here: jobs, data files, adapters as a whole, deleted weights.
    """
    node = lineage_of(registry, name).node
    folder = _folder(registry, node)
    job = next((part for part in node.parts if part.kind is NodeKind.JOB), None)
    return {
        "_type": STATEMENT,
        "subject": [
            {"name": f"{node.name}/{path}", "digest": {"sha256": sha256_of(folder / path)}}
            for path in folder_files(folder)
        ],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": _build_definition(registry, node, job),
            "runDetails": _run_details(node, job),
        },
    }


def _folder(registry: Registry, node: LineageNode) -> Path:
    """Return the folder of the weights."""
    of_base = node.kind in (NodeKind.BASE, NodeKind.CHECKPOINT) and node.state is NodeState.PRESENT
    if of_base:
        return Path(registry.at_hand(registry.bases.get(node.name)).path)
    if node.kind in (NodeKind.REVISION, NodeKind.STEP) and node.digest and registry.artifacts.has_folder(node.digest):
        return registry.artifacts.folder(node.digest)
    raise NotServable(
        f"{node.name!r} is {'deleted' if node.state is NodeState.DELETED else f'a {node.kind}'}, which has no files of "
        "weights that a statement could name; give a revision, a checkpoint or a base model"
    )


def _build_definition(registry: Registry, node: LineageNode, job: LineageNode | None) -> dict[str, Any]:
    facts = {} if job is None else job.facts
    external = {name: facts[name] for name in _EXTERNAL if facts.get(name) is not None}
    external["name"] = node.name
    if base := _part(node, "base"):
        external["base"] = base.name
    if adapter := _part(node, "adapter"):
        external["adapter"] = adapter.name
    kind = facts.get("method") or ("pull" if _part(node, "pulled from") else "entered")
    return {
        "buildType": f"urn:lorry:{kind}:1",
        "externalParameters": external,
        "internalParameters": {name: facts[name] for name in _INTERNAL if facts.get(name) is not None},
        "resolvedDependencies": list(_dependencies(registry, node, job)),
    }


def _dependencies(registry: Registry, node: LineageNode, job: LineageNode | None) -> Iterator[dict[str, Any]]:
    """Yield data files, base model and adapter; of a pulled model every file at its commit."""
    for part in (*(job.parts if job else ()), *node.parts):
        if part.kind is NodeKind.FILE and part.digest:
            yield _descriptor(part, {"sha256": part.digest})
        elif part.relation in ("base", "adapter") and part.digest:
            yield _descriptor(part, {FOLDER_DIGEST: part.digest})
            yield from _hub_files(next((each for each in part.parts if each.kind is NodeKind.REPOSITORY), None))
        elif part.kind is NodeKind.REPOSITORY:
            yield from _hub_files(part)


def _descriptor(part: LineageNode, digest: Mapping[str, str]) -> dict[str, Any]:
    annotations: dict[str, Any] = {"relation": part.relation, "state": str(part.state)}
    signed = [f"{each.by}: {each.facts['rows']} rows read, {each.facts['bad']} bad" for each in part.parts
              if each.kind is NodeKind.REVIEW]  # fmt: skip
    if signed:
        annotations["signedOff"] = signed
    return {"name": part.name, "digest": dict(digest), "annotations": annotations}


def _hub_files(repository: LineageNode | None) -> Iterator[dict[str, Any]]:
    if repository is None:
        return
    commit, name = repository.facts["commit"], repository.name.partition(":")[2].rpartition("@")[0]
    addresses = {"huggingface": f"https://huggingface.co/{name}/resolve/{commit}",
                 "modelscope": f"https://modelscope.cn/models/{name}/resolve/{commit}"}  # fmt: skip
    root = addresses[repository.facts["hub"]]
    for path, sha256 in repository.facts["files"].items():
        yield {"name": path, "uri": f"{root}/{path}", "digest": {"sha256": sha256, "gitCommit": commit}}


def _run_details(node: LineageNode, job: LineageNode | None) -> dict[str, Any]:
    versions = job.facts.get("versions") if job else None
    metadata = {
        "invocationId": job.name if job else node.name,
        "startedOn": _moment(job.facts.get("started_at") if job else node.at),
        "finishedOn": _moment(job.facts.get("finished_at") if job else node.at),
    }
    found: dict[str, Any] = {
        "builder": {
            "id": "urn:lorry:trainer" if job else "urn:lorry",
            "version": {"lorry": version("lorry"), **{key: str(value) for key, value in (versions or {}).items()}},
        },
        "metadata": {name: value for name, value in metadata.items() if value is not None},
    }
    if job is not None and job.facts.get("metrics"):
        text = json.dumps(job.facts["metrics"], sort_keys=True).encode()
        media = {"name": "metrics.json", "mediaType": "application/json", "content": b64encode(text).decode()}
        found["byproducts"] = [media]
    return found


def _part(node: LineageNode, relation: str) -> LineageNode | None:
    return next((part for part in node.parts if part.relation == relation), None)


def _moment(at: Any) -> str | None:
    """Return unix seconds as RFC 3339 in UTC, whole seconds."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(at, int | float) else None
