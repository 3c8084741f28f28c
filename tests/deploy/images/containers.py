"""Images built by buildah and containers started by podman, as root and without a daemon."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engines.environments.installer import pip_settings
from tests.pages import ROOT

BASE: Final = "docker.io/library/debian:bookworm-slim"
_STORAGE: Final = ("--storage-driver", "overlay")
_PODMAN: Final = (*_STORAGE, "--runtime", "/usr/sbin/runc", "--cgroup-manager", "cgroupfs")
_LIMITS: Final = ("--ulimit", "nofile=20000:20000", "--ulimit", "nproc=8192:8192")
"""Podman's own are above what a container inside of another one may have."""


def podman(*arguments: str, timeout_s: float = 120.0) -> str:
    """Return what podman prints; its complaint is that of the failed test."""
    ended = subprocess.run(
        ["podman", *_PODMAN, *arguments], capture_output=True, text=True, check=False, timeout=timeout_s
    )
    assert ended.returncode == 0, f"podman {' '.join(arguments)}: {ended.stdout}{ended.stderr}"
    return ended.stdout


def import_base(archive: Path) -> None:
    """Make the base image of a Debian that mmdebstrap wrote, since no registry of images can be asked here."""
    if subprocess.run(["podman", *_PODMAN, "image", "exists", BASE], check=False).returncode:
        podman("import", str(archive), BASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """An image, and what it took."""

    name: str
    seconds: float
    gigabytes: float


def build(role: str, folder: Path) -> Built:
    """Build the image of a role with pip's settings of this machine; its certificates are mounted, not kept."""
    name = f"localhost/lorry-{role}:test"
    settings = pip_settings()
    volumes = [f"{path}:{path}:ro" for path in settings.get("find-links", "").split() if Path(path).is_dir()]
    if "cert" in settings:
        volumes.append(f"{settings['cert']}:/etc/pip-ca.crt:ro")
        settings = {**settings, "cert": "/etc/pip-ca.crt"}
    kept = {name: value for name, value in settings.items() if name in {"cert", "find-links", "index-url", "timeout"}}
    (folder / "pip.conf").write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in kept.items()))
    command = ["buildah", *_STORAGE, "bud", "--isolation", "chroot", "--pull-never", "--format", "docker", "--layers"]
    command += ["--secret", f"id=pip,src={folder / 'pip.conf'}", "--build-arg", f"BASE_IMAGE={BASE}"]
    command += [word for volume in volumes for word in ("--volume", volume)]
    command += ["--target", role, "--file", "deploy/docker/lorry.Dockerfile", "--tag", name, "."]
    began = time.monotonic()
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=3600)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    size = int(podman("image", "inspect", "--format", "{{.Size}}", name))
    return Built(name=name, seconds=time.monotonic() - began, gigabytes=size / 1e9)


class Container:
    """A container that runs, until it is removed."""

    def __init__(self, image: str, options: Sequence[str], command: Sequence[str]) -> None:
        self._id = podman("run", "--detach", *_LIMITS, *options, image, *command).strip()

    def run(self, *command: str) -> str:
        """Return what a command in the container prints."""
        return podman("exec", self._id, *command)

    def is_healthy(self) -> bool:
        """Whether the image's own health check passes now."""
        command = ["podman", *_PODMAN, "healthcheck", "run", self._id]
        return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0

    def stop(self, grace_s: int) -> int:
        """Send SIGTERM, wait, and return the exit code; one killed after *grace_s* has 137."""
        podman("stop", "--time", str(grace_s), self._id, timeout_s=grace_s + 60.0)
        return int(podman("inspect", "--format", "{{.State.ExitCode}}", self._id))

    @property
    def logs(self) -> str:
        """What it printed, on both streams."""
        command = ["podman", *_PODMAN, "logs", self._id]
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True).stdout

    def zombies(self) -> list[str]:
        """Return the names of processes that have ended and for which nobody waited."""
        text = self.run("/bin/sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null || true")
        return re.findall(r"\((.*?)\) Z ", text)

    def remove(self) -> None:
        """End and remove it, whatever it does."""
        podman("rm", "--force", "--time", "0", self._id)


def once(image: str, options: Sequence[str], *command: str) -> str:
    """Return what a command in a container of its own prints on standard output."""
    return podman("run", "--rm", *_LIMITS, *options, image, *command, timeout_s=300.0)


def base_archive() -> Path:
    """Return the archive that `make images-test` has mmdebstrap write."""
    return Path(os.environ["LORRY_TEST_DEBIAN"])
