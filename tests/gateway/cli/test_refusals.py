"""A fault at the command line is reported in a line that says what would be right, in the words of the command line."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from gateway.cli.flag_words import in_flags
from registry import tables
from registry.database import Registry
from registry.publishing.publish import publish
from registry.rollouts.rollout import RolloutPlan, weighted
from registry.types import LOCAL_TENANT, Base, RevisionDraft
from tests.gateway.cli.lorry_command import lorry, run_lorry

EXAMPLES = Path(__file__).parents[3] / "examples"
NOWHERE = "http://127.0.0.1:1"


def one_line(url: str, *words: str, code: int = 1, **variables: str) -> str:
    """The only line of a command that fails."""
    output, errors = run_lorry(*words, LORRY_URL=url, code=code, **variables)
    assert output == ""
    assert errors.count("\n") == 1, errors
    assert "Traceback" not in errors
    return errors


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("127.0.0.1:8080", "was http://127.0.0.1:8080 meant?"),
        ("localhost:8080", "was http://localhost:8080 meant?"),
        ("ftp://here", "does not begin with http:// or https://"),
        ("http://", "is not the address of a gateway"),
        ("http://here:port", "is not an address"),
        ("http://[::1", "is not an address"),
        ("http://here:99999", "is not an address"),
        ("http://two words", "is not the address of a gateway"),
        ("http://here?query=1", "is not the address of a gateway"),
        (NOWHERE, "(connection refused); start one with `lorry up`"),
        ("http://no-such-host.invalid", "start one with `lorry up`"),
    ],
)
def test_a_wrong_address_is_told_in_one_line(address: str, told: str) -> None:
    assert told in one_line(address, "jobs", "list")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("chat", "m", "--temperature", "5"), "'--temperature': must be at most 2.0, not 5"),
        (("chat", "m", "--temperature", "nan"), "'--temperature': must be at most 2.0, not nan"),
        (("jobs", "list", "--limit", "0"), "'--limit': must be at least 1, not 0"),
        (("audit", "--limit", "1e3"), "'--limit': must be a whole number, not 1e3"),
        (("up", "--port", "99999"), "'--port': must be at most 65535, not 99999"),
        (("train", "sft", "--seed", "1.5"), "'--seed': must be a whole number, not 1.5"),
        (("quantize", "m", "--use", "odd"), "'--use': 'odd' is not one of 'online', 'batch'"),
    ],
)
def test_the_value_of_an_option_is_refused_in_words_of_ours(words: tuple[str, ...], told: str) -> None:
    _, errors = run_lorry(*words, LORRY_URL=NOWHERE, code=2)
    assert errors.splitlines()[-1] == f"Error: Invalid value for {told}"


def test_a_key_that_cannot_be_one_is_told_before_anything_is_sent() -> None:
    for key in ("sk-lörry", "sk lorry", "sk-lorry-\x07", "漢字"):
        assert "LORRY_API_KEY has the character" in one_line(NOWHERE, "jobs", "list", LORRY_API_KEY=key)


def test_a_gateway_without_tls_and_a_wrong_path_are_told(url: str) -> None:
    assert "does not speak TLS; write http://" in one_line(url.replace("http:", "https:"), "jobs", "list")
    assert "no endpoint has the path" in one_line(f"{url}/v2", "jobs", "list")


@pytest.fixture
def proxy() -> Iterator[str]:
    """A server that answers everything with a page."""

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<html><h1>Welcome</h1></html>"
            self.send_response(502)
            self.send_header("content-type", "text/html; charset=utf-8")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_page_of_a_proxy_is_told_as_one(proxy: str) -> None:
    told = one_line(proxy, "jobs", "list")
    assert "answered 502 with text/html" in told
    assert "that is a proxy or another server" in told


def test_a_server_that_speaks_no_http_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        told = one_line(f"http://127.0.0.1:{listener.getsockname()[1]}", "jobs", "list")
        thread.join()
    assert "does not answer as a gateway does" in told


READS = (
    "adapters show {}",
    "adapters show {}@1",
    "models remove {}",
    "feedback list {}",
    "feedback show {}",
    "feedback show {}@2",
    "jobs show {}",
    "jobs logs {}",
    "models show {}",
    "rollout status {}",
    "rollout history {}",
    "rollout force {} --list",
)


@pytest.mark.long
@pytest.mark.parametrize("name", ["nobody", "ro-123456789abc", "ftjob-0123", "a/b?c#d", "..", "cafe"])
def test_reading_what_does_not_exist_fails_by_name(url: str, name: str) -> None:
    for command in READS:
        told = one_line(url, *command.format(name).split())
        assert "there is no" in told or "does not exist" in told or "no endpoint" in told, (command, told)


def test_the_name_that_was_meant_is_told(two_revisions: Registry, url: str) -> None:
    for command, meant in (
        ("adapters show suport", "did you mean 'support'?"),
        ("rollout history suppport", "did you mean 'support'?"),
        ("rollout start suport@2", "did you mean 'support'?"),
        ("rollback suport", "did you mean 'support'?"),
        ("models remove tyni", "did you mean 'tiny'?"),
        ("models show suport", "did you mean 'support'?"),
        ("adapters show support@7", "it has 2, 1"),
        ("feedback show support@7", "there are support@2, support@1"),
        (f"replicas add {NOWHERE} --engine vlm --base tiny", "did you mean 'vllm'?"),
    ):
        assert meant in one_line(url, *command.split()), command


def test_a_hyperparameter_that_is_not_known_names_the_one_that_was_meant(url: str) -> None:
    words = ("train", "sft", "--data", str(EXAMPLES / "plain.jsonl"), "--name", "x")
    assert "did you mean 'n_epochs'?" in " ".join(lorry(url, *words, "--set", "epochs=3", code=2).split())
    told = one_line(url, *words, "--set", "n_epochs=99")
    assert told == "lorry: --set n_epochs: must be at most 50, not 99\n"
    assert "--model" in one_line(url, *words, "--model", "tyni")
    assert "did you mean 'tiny'?" in one_line(url, *words, "--model", "tyni")


def test_fields_become_flags_and_words_of_the_user_stay() -> None:
    flags = {"name": "--name", "training_file": "--data", "every_s": "--every"}
    assert in_flags("name: must be a string", flags) == "--name: must be a string"
    assert in_flags("the name 'name' is taken", flags) == "the name 'name' is taken"
    assert in_flags("training_file 'training_file' does not exist", flags).startswith("--data 'training_file' does")
    assert in_flags("method.dpo.hyperparameters: unknown field x", {}) == "--set: unknown option x"
    assert in_flags("names.0: must be", {"names": "--names"}) == "--names: must be"


def test_a_key_that_nobody_checks_is_a_warning(url: str) -> None:
    output, remarks = run_lorry("models", "list", LORRY_URL=url, LORRY_API_KEY="sk-lorry-old")
    assert "tiny" in output
    assert remarks.count("warning: an API key was sent, but this gateway has no keys") == 1
    assert "warning" not in run_lorry("models", "list", LORRY_URL=url)[1]


@pytest.fixture
def jobs(sqlite_registry: Registry, url: str, make_adapter: Callable[..., Path]) -> list[str]:
    """Ids of two queued jobs."""
    words = ["adapters", "publish", str(make_adapter()), "--name", "support", "--no-follow", "--json"]
    return [json.loads(lorry(url, *words))["id"] for _ in range(2)]


def test_the_beginning_of_an_id_is_enough(url: str, jobs: list[str]) -> None:
    whole = jobs[0]
    shortest = next(whole[:end] for end in range(11, len(whole)) if not jobs[1].startswith(whole[:end]))
    for typed in (shortest, shortest.partition("-")[2], whole):
        assert json.loads(lorry(url, "jobs", "show", typed, "--json"))["id"] == whole
    assert "there is no job" in one_line(url, "jobs", "show", "pubjob-")
    assert json.loads(lorry(url, "jobs", "cancel", shortest, "--json"))["status"] == "cancelled"


def test_an_ambiguous_beginning_lists_the_candidates(url: str, sqlite_registry: Registry) -> None:
    files = [
        sqlite_registry.files.add([b"{}"], filename="a", purpose="batch", owner="ann", tenant=LOCAL_TENANT)
        for _ in range(2)
    ]

    with sqlite_registry.transactions.write() as tx:
        for number, file in enumerate(files):
            tx.execute(
                tables.files.update().where(tables.files.c.id == file.id).values(id=f"file-abcd{number}" + "0" * 19)
            )
    words = ("train", "sft", "--name", "x", "--model", "tiny", "--file")
    told = one_line(url, *words, "abcd")
    assert "'abcd' is the beginning of several files; type more of one: file-abcd1" in told
    assert "file-abcd0" in told
    assert "--file 'file-abcd10" in one_line(
        url, "train", "sft", "--file", "file-abcd1", "--name", "x", "--model", "tiny"
    )


def test_a_revision_is_found_by_its_digest_and_a_rollout_by_its_id(two_revisions: Registry, url: str) -> None:
    digest = two_revisions.adapters.revision("support", 2).artifact
    assert json.loads(lorry(url, "adapters", "show", digest[:8], "--json"))["name"] == "support@2"
    rollout = two_revisions.rollouts.start("support", 2, RolloutPlan(steps=weighted(50, 100)), "me")
    assert "adapter 'support' has the open rollout" in one_line(url, "rollout", "start", digest[:8])
    assert json.loads(lorry(url, "rollout", "abort", rollout.id[:8], "--json"))["state"] == "aborted"


@pytest.mark.long
def test_a_key_is_revoked_by_its_name_or_the_beginning_of_its_id(url: str) -> None:
    root = lorry(url, "keys", "create", "--name", "root").strip()
    made = [
        json.loads(lorry(url, "keys", "create", "--name", name, "--json", LORRY_API_KEY=root)) for name in ("a", "b")
    ]
    assert "a is revoked" in lorry(url, "keys", "revoke", made[0]["id"][:12], LORRY_API_KEY=root)
    assert "b is revoked" in lorry(url, "keys", "revoke", "b", LORRY_API_KEY=root)
    assert "there is no valid key 'key'" in one_line(url, "keys", "revoke", "key", LORRY_API_KEY=root)


@pytest.mark.long
def test_a_key_for_training_finds_the_ids_of_its_tenant_only(
    url: str, sqlite_registry: Registry, base: Base, make_adapter: Callable[..., Path]
) -> None:
    publish(sqlite_registry, make_adapter(), RevisionDraft(adapter="support", base=base.name, owner="me"))
    root = lorry(url, "keys", "create", "--name", "root").strip()
    theirs = lorry(url, "keys", "create", "--name", "ann", "--scopes", "training", LORRY_API_KEY=root).strip()
    file = sqlite_registry.files.add([b"{}"], filename="a", purpose="fine-tune", owner="bob", tenant="bob")
    told = one_line(url, "train", "sft", "--file", file.id[:13], "--name", "x", "--model", "tiny", LORRY_API_KEY=theirs)
    assert f"--file {file.id[:13]!r} does not exist" in told
