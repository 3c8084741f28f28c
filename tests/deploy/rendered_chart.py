"""The chart as helm renders it, and the schemas of what comes out."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import yaml
from jsonschema import Draft202012Validator

from tests.deploy.chart_values import SMALL
from tests.deploy.lint_tools import DEPLOY, passes

CHART: Final = DEPLOY / "helm" / "lorry"
CRD: Final = Path(__file__).parent / "crds" / "kuberay-1.7.0" / "ray.io_rayservices.json.gz"
"""KubeRay's definition of RayService, of the release in its path, without descriptions."""


class Renderer:
    """Renders the chart with values over the least ones, each set once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def values(self, values: Mapping[str, Any]) -> Path:
        """Return a file with the least values and *values* over them."""
        text = json.dumps({**SMALL, **values})
        path = self._folder / f"{sha256(text.encode()).hexdigest()[:12]}.json"
        path.write_text(text)
        return path

    def rendered(self, values: Mapping[str, Any]) -> Path:
        """Return a file with all that helm makes of them."""
        given = self.values(values)
        path = given.with_suffix(".yaml")
        if not path.exists():
            path.write_text(passes("helm", "template", "lorry", CHART, "--values", given))
        return path


def objects(path: Path) -> list[dict[str, Any]]:
    """Return the objects in a rendered file."""
    return [found for found in yaml.safe_load_all(path.read_text()) if found]


def one(path: Path, kind: str, ending: str = "") -> dict[str, Any]:
    """Return the only object of a kind whose name has an ending."""
    (found,) = (
        about for about in objects(path) if about["kind"] == kind and about["metadata"]["name"].endswith(ending)
    )
    return found


def settings_text(path: Path) -> str:
    """Return the lorry.toml of a rendered file."""
    return str(one(path, "ConfigMap")["data"]["lorry.toml"])


def groups(service: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield head and worker groups of a RayService."""
    cluster = service["spec"]["rayClusterConfig"]
    yield cluster["headGroupSpec"]
    yield from cluster["workerGroupSpecs"]


def check_ray_service(service: Mapping[str, Any]) -> None:
    """Raise `jsonschema.ValidationError` for a RayService that KubeRay would not take, or with a key that it drops."""
    Draft202012Validator(_ray_service_schema()).validate(service)


@cache
def _ray_service_schema() -> dict[str, Any]:
    definition = json.loads(gzip.decompress(CRD.read_bytes()))
    (version,) = (about for about in definition["spec"]["versions"] if about["name"] == "v1")
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    _close(schema)
    schema["properties"]["metadata"] = {"type": "object"}
    return schema


def _close(schema: dict[str, Any]) -> None:
    properties = schema.get("properties", {})
    if properties and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema["additionalProperties"] = False
    for below in (*properties.values(), schema.get("items"), schema.get("additionalProperties")):
        if isinstance(below, dict):
            _close(below)
