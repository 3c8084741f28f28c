"""Hosts on one machine: each has processes, network, name and disk of its own, and all are on one bridge.

A host is a set of Linux namespaces under an init process. When that ends, the kernel ends everything that runs there,
and when the tests end in any way, so does init. PostgreSQL and SeaweedFS run outside, at addresses on the bridge.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import psutil

from engines.bound_child import die_with_parent

_INIT: Final = """
mount --bind "$1" "$2" && hostname "$3" && ip link set lo up || exit 1
mount -t overlay -o "lowerdir=/etc,upperdir=$4/upper,workdir=$4/work" overlay /etc || exit 1
echo ready
while :; do sleep 3600 & wait $!; done
"""
"""Own disk at the path where all hosts have theirs, own files in `/etc`; then the shell reaps what loses its parent."""
_OUTSIDE: Final = 1
"""Last part of the machine's own address on the bridge."""
_DATABASE, _STORE = 200, 201
"""Last parts of the addresses of PostgreSQL and of SeaweedFS there."""
_NOBODY: Final = "02:00:00:00:00:01"
"""A hardware address that no port of the bridge has."""
_BRIDGE: Final = "02:00:00:00:00:02"
"""The hardware address of the bridge itself."""


class NoNamespaces(Exception):
    """This machine does not let us make namespaces."""


def ip(*words: str) -> None:
    """Run `ip`, which must succeed."""
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Host:
    """A host on the bridge: started, ended whole, started again with the same disk."""

    def __init__(self, lab: Lab, name: str, number: int, written: Mapping[Path, str]) -> None:
        """The host *name* with the address that ends with *number* and files *written* in `/etc`; nothing runs yet."""
        self.name, self.address = name, lab.address(number)
        self._lab, self._link = lab, f"{lab.bridge}p{number}"
        self.disk = lab.folder / f"disk-{name}"
        self.disk.mkdir()
        self._etc = lab.folder / f"etc-{name}"
        for folder in ("upper", "work"):
            (self._etc / folder).mkdir(parents=True)
        for path, text in written.items():
            own = self._etc / "upper" / path.relative_to("/etc")
            own.parent.mkdir(parents=True, exist_ok=True)
            own.write_text(text)
        self._unshare: subprocess.Popen[str] | None = None
        self._init = 0
        self._begun: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start init and plug the host into the bridge. `NoNamespaces`."""
        words = ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        init = ["bash", "-c", _INIT, "init", str(self.disk), str(self._lab.home), self.name, str(self._etc)]
        self._unshare = subprocess.Popen(
            [*words, *init],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=partial(die_with_parent, os.getpid(), signal.SIGKILL),  # noqa: PLW1509
        )
        assert self._unshare.stdout is not None
        if (line := self._unshare.stdout.readline().strip()) != "ready":
            self._unshare.wait()
            raise NoNamespaces(line)
        (init_process,) = psutil.Process(self._unshare.pid).children()
        self._init = init_process.pid
        ip("link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", str(self._init))
        ip("link", "set", self._link, "master", self._lab.bridge, "up")
        self.run("ip", "addr", "add", f"{self.address}/24", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")

    def words(self, *command: str) -> list[str]:
        """Return what runs *command* on the host."""
        return ["nsenter", "--target", str(self._init), "--net", "--mount", "--uts", "--pid", "--", *command]

    def run(self, *command: str, code: int = 0, **variables: str) -> str:
        """Run *command* there to its end and return its output, with its errors if it must fail by *code*."""
        told = subprocess.run(
            self.words(*command),
            capture_output=True,
            text=True,
            env=self._lab.environment | variables,
            check=False,
            timeout=600,
            cwd="/",
        )
        assert told.returncode == code, told.stdout + told.stderr
        return told.stdout if code == 0 else told.stdout + told.stderr

    def begin(self, *command: str, log: str) -> subprocess.Popen[bytes]:
        """Start *command* there, its output in a file *log* of the host's disk; it ends with the host."""
        with (self.disk / log).open("ab") as output:
            begun = subprocess.Popen(
                self.words(*command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._lab.environment,
                cwd="/",
            )
        self._begun.append(begun)
        return begun

    def log(self, name: str) -> str:
        """Return the output of a command that was begun with this *log*."""
        return (self.disk / name).read_text()

    @contextmanager
    def losing(self, *addresses: str) -> Iterator[None]:
        """Let packets to these addresses vanish inside the block, as behind a broken switch: nobody reports that."""
        for address in addresses:
            self.run("ip", "neigh", "replace", address, "lladdr", _NOBODY, "dev", "eth0", "nud", "permanent")
        try:
            yield
        finally:
            for address in addresses:
                self.run("ip", "neigh", "del", address, "dev", "eth0")

    def end(self) -> None:
        """Cut the power: first nothing of the host reaches the bridge any more, then nothing runs there."""
        if self._unshare is None:
            return
        with suppress(subprocess.CalledProcessError):  # a host whose start failed has none
            ip("link", "del", self._link)
        self._unshare.kill()
        self._unshare.wait()
        assert self._unshare.stdout is not None
        self._unshare.stdout.close()
        self._unshare = None
        while self._begun:
            self._begun.pop().wait(timeout=30.0)


class Lab:
    """The bridge, what all hosts share, and the hosts."""

    def __init__(self, folder: Path) -> None:
        """Make the bridge. `NoNamespaces`."""
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir()
        self.bridge = f"lorry{os.getpid() % 100000}"
        self._network = f"10.{100 + os.getpid() % 100}.{os.getpid() // 100 % 250}"
        self.database_address, self.store_address = self.address(_DATABASE), self.address(_STORE)
        self.environment: dict[str, str] = dict(os.environ) | {
            "LORRY_HOME": str(self.home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "COLUMNS": "200",
        }
        self._hosts: list[Host] = []
        try:
            # With an address of its own: without, a bridge has that of a port, and changes it when a host loses its
            # power; all other hosts would then send to nobody for half a minute.
            ip("link", "add", self.bridge, "address", _BRIDGE, "type", "bridge")
            for number in (_OUTSIDE, _DATABASE, _STORE):
                ip("addr", "add", f"{self.address(number)}/24", "dev", self.bridge)
            ip("link", "set", self.bridge, "up")
        except (OSError, subprocess.CalledProcessError) as exc:
            raise NoNamespaces(f"cannot make a bridge: {exc}") from exc

    def address(self, number: int) -> str:
        """Return the address on the bridge that ends with *number*."""
        return f"{self._network}.{number}"

    @property
    def network(self) -> str:
        """All addresses on the bridge."""
        return f"{self._network}.0/24"

    def host(self, name: str, written: Mapping[Path, str]) -> Host:
        """Return a new host, started, which has files *written* in its `/etc`."""
        made = Host(self, name, 10 + len(self._hosts), written)
        self._hosts.append(made)
        made.start()
        return made

    def close(self) -> None:
        """End all hosts and remove the bridge."""
        for host in self._hosts:
            host.end()
        with suppress(subprocess.CalledProcessError):
            ip("link", "del", self.bridge)


@contextmanager
def lab() -> Iterator[Lab]:
    """Have a lab inside the block; `NoNamespaces` where that is not possible."""
    # Ray's sockets are below the folder, and the path of a socket is short.
    folder = Path(tempfile.mkdtemp(prefix="ly-"))
    folder.chmod(0o755)  # PostgreSQL's account looks in
    made: Lab | None = None
    try:
        made = Lab(folder)
        yield made
    finally:
        if made is not None:
            made.close()
        shutil.rmtree(folder, ignore_errors=True)


def ray_variables(token: str) -> Mapping[str, str]:
    """Return the environment of every process of the cluster."""
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        # Ray would kill replicas where other work of this machine has the memory.
        "RAY_memory_monitor_refresh_ms": "0",
        "RAY_enable_metrics_collection": "0",
        # Ray finds out in 20 s that the power of a host was cut; a host that runs on a busy machine takes 5 s to
        # answer.
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_timeout_ms": "4000",
        "RAY_health_check_failure_threshold": "5",
    }


def ray_start(address: str, *words: str) -> Sequence[str]:
    """Return the command of a node of Ray in the foreground, at *address*."""
    # Ray gives a node 30 s to start, which a machine that is busy with other tests may not have: then once more.
    again = ["bash", "-c", 'until "$@"; do sleep 1; done', "ray"]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--node-ip-address", address]
    return [*again, *command, "--disable-usage-stats", "--object-store-memory", str(80 << 20), *words]
