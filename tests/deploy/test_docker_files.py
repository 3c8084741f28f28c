"""Dockerfiles and compose files as their linters read them, and what must agree with the rest of the repository."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.deploy.lint_tools import DEPLOY, complains, passes
from tests.pages import ROOT

DOCKER = DEPLOY / "docker"
DOCKERFILES = tuple(sorted(DOCKER.glob("*.Dockerfile")))
COMPOSE_FILES = tuple(sorted(DOCKER.glob("compose*.yaml")))
pytestmark = pytest.mark.deploy


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing_in_a_dockerfile(path: Path) -> None:
    passes("hadolint", "--config", DOCKER / "hadolint.yaml", path)


def test_hadolint_would_find_an_image_that_runs_as_root(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text(DOCKERFILES[1].read_text().replace("USER 10001:10001", "USER 0:0"))
    assert "DL3002" in complains("hadolint", "--config", DOCKER / "hadolint.yaml", path)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_every_base_is_an_argument_without_a_default(path: Path) -> None:
    text = path.read_text()
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", text, re.MULTILINE))
    bases = set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) - stages
    assert bases
    for base in bases:
        assert re.search(rf"^ARG {base.strip('${}')}$", text, re.MULTILINE), f"{base} can be had without a digest"


@pytest.mark.parametrize("path", COMPOSE_FILES, ids=lambda path: path.name)
def test_dclint_finds_nothing_in_a_compose_file(path: Path) -> None:
    passes("dclint", path, "--max-warnings", "0")


def test_dclint_would_find_a_key_that_compose_does_not_have(tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text(COMPOSE_FILES[-1].read_text().replace("restart:", "restarts:"))
    assert "invalid-schema" in complains("dclint", path)


def test_compose_waits_longer_than_gateways_and_engines_drain() -> None:
    service = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]["lorry"]
    drain_s = tomllib.loads((ROOT / "docs" / "lorry.toml").read_text())["gateway"]["drain_timeout_s"]
    assert int(service["stop_grace_period"].removesuffix("s")) > 2 * drain_s


def test_the_context_of_a_build_has_every_package_and_nothing_else() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    taken = {line[1:].rstrip("/") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    assert taken == packages | {"LICENSE", "README.md", "constraints.txt", "pyproject.toml", "deploy/docker/*.txt"}
