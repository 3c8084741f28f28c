"""The targets of the comparison: the mock itself, our gateway, and the peers, each with processes of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import httpx2
import psutil

from bench.comparison.environments import environment
from bench.comparison.native import MODEL, free_ports
from bench.comparison.process_tree import tree_of
from tests.waiting import wait_for

START_TIMEOUT_S: Final = 180.0


class Target(Protocol):
    """Something with an OpenAI face that has been started."""

    @property
    def name(self) -> str: ...

    @property
    def port(self) -> int: ...

    @property
    def key(self) -> str | None:
        """Return the API key that requests carry."""
        ...

    @property
    def patience(self) -> float:
        """Return the factor on the length of the target's runs, above 1 where it is too slow for the usual ones."""
        ...

    def serving(self) -> list[psutil.Process]:
        """Return the processes that serve requests."""
        ...

    def whole(self) -> list[psutil.Process]:
        """Return all processes of the target."""
        ...

    def stop(self) -> None:
        """End the target."""
        ...


class Direct:
    """The mock engine itself."""

    name = "direct"
    key = None
    patience = 1.0

    def __init__(self, port: int) -> None:
        self.port = port

    def serving(self) -> list[psutil.Process]:
        """Return no process: the mock's own work is nobody's cost."""
        return []

    def whole(self) -> list[psutil.Process]:
        """Return no process."""
        return []

    def stop(self) -> None:
        """Do nothing, as nothing was started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerKind:
    """How a peer is started, in the form that costs it least: round robin, no keys, quiet logs."""

    program: str
    words: Sequence[str] = ()
    urls_after: str = "--worker-urls"
    """The option that engines are named with."""
    metrics_option: str = "--prometheus-port"
    variables: Mapping[str, str] = field(default_factory=dict)
    patience: float = 1.0


_ROUTER: Final = ("--policy", "round_robin", "--log-level")
PEERS: Final[Mapping[str, PeerKind]] = {
    "litellm": PeerKind(
        program="litellm",
        urls_after="--config",
        variables={
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        },
        patience=2.0,
    ),
    "sglang-router": PeerKind(program="sglang-router", words=("launch", *_ROUTER, "warn")),
    "smg": PeerKind(program="smg", words=("launch", *_ROUTER, "warn")),
    "vllm-router": PeerKind(program="vllm-router", words=(*_ROUTER, "warning")),
}


class Peer:
    """A peer in an environment of its own, before the engines at *engine_ports*."""

    key = None

    def __init__(self, name: str, cache: Path, engine_ports: Sequence[int]) -> None:
        """Start the peer and return once it answers a completion."""
        self.name = name
        kind = PEERS[name]
        self.patience = kind.patience
        self.port, metrics_port = free_ports(2)
        urls = [f"http://127.0.0.1:{port}" for port in engine_ports]
        words = ["--host", "127.0.0.1", "--port", str(self.port)]
        if name == "litellm":
            words += ["--config", str(_litellm_config(cache, urls)), "--telemetry", "False"]
        else:
            words += [kind.urls_after, *urls, kind.metrics_option, str(metrics_port)]
        self._log = cache / f"{name}.log"
        command = [str(environment(name, cache) / "bin" / kind.program), *kind.words, *words]
        variables = {"NO_PROXY": "127.0.0.1,localhost", **kind.variables}
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command, env=os.environ | variables, stdout=log, stderr=log, start_new_session=True
            )
        wait_for(self._answers, START_TIMEOUT_S)

    def serving(self) -> list[psutil.Process]:
        """Return all processes of the peer."""
        return self.whole()

    def whole(self) -> list[psutil.Process]:
        """Return the process and everything that it started."""
        return tree_of(self._process.pid)

    def stop(self) -> None:
        """End the peer, by force after some seconds."""
        tree = self.whole() if self._process.poll() is None else []
        self._process.terminate()
        _, alive = psutil.wait_procs(tree, timeout=8)
        for process in alive:
            process.kill()
        self._process.wait()

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            raise SystemExit(f"{self.name} ended while starting; its log is {self._log}")
        return answers(self.port, None)


def answers(port: int, key: str | None) -> bool:
    """Return whether the server at *port* answers a completion of the mock's model."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    try:
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        return httpx2.post(url, json=body, headers=headers, timeout=10.0, trust_env=False).is_success
    except httpx2.TransportError:
        return False


def _litellm_config(cache: Path, urls: Sequence[str]) -> Path:
    """Write LiteLLM's configuration: one deployment for each engine, chosen at random, its default."""
    engines = "".join(
        f"  - model_name: {MODEL}\n    litellm_params:\n      model: hosted_vllm/{MODEL}\n"
        f"      api_base: {url}/v1\n      api_key: none\n"
        for url in urls
    )
    path = cache / "litellm.yaml"
    path.write_text(f"model_list:\n{engines}general_settings:\n  disable_spend_logs: true\n")
    return path
