"""Data sets of both hubs are fetched at one revision, from a server that speaks their protocol."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from corpus.errors import SourceRefused
from corpus.sources.hubs import parse_address
from tests.loopback import LoopbackHandler, LoopbackServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ROWS = b'{"query": "Q", "response": "A"}\n'
FILES = {"data/train.jsonl": ROWS, "README.md": b"# Data\n"}


class Hubs(LoopbackHandler):
    """Both hubs, with one data set of two files at the tag v1."""

    def do_GET(self) -> None:
        """Answer as the hubs do."""
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path.startswith("/api/v1/datasets/o/n/repo/tree"):
            entries = [{"Path": path, "Type": "blob", "Size": len(text)} for path, text in FILES.items()]
            files = entries if query.get("PageNumber", "1") == "1" else []
            self.reply(200, json.dumps({"Code": 200, "Data": {"Files": files, "TotalCount": len(entries)}}).encode())
        elif parts.path.startswith("/api/v1/datasets/o/n/repo"):
            self.reply(200, FILES[query["FilePath"]], "application/octet-stream")
        elif parts.path in ("/api/datasets/o/n/revision/v1", f"/api/datasets/o/n/revision/{COMMIT}"):
            siblings = [{"rfilename": path} for path in FILES]
            self.reply(200, json.dumps({"id": "o/n", "sha": COMMIT, "siblings": siblings}).encode())
        elif parts.path.startswith(f"/api/datasets/o/n/tree/{COMMIT}"):
            tree = [{"type": "file", "path": path, "size": len(text), "oid": "a" * 40} for path, text in FILES.items()]
            self.reply(200, json.dumps(tree).encode())
        elif parts.path.startswith(f"/datasets/o/n/resolve/{COMMIT}/"):
            self._send_file(FILES[parts.path.split(COMMIT + "/")[1]])
        else:
            code = "RevisionNotFound" if "/revision/" in parts.path else "RepoNotFound"
            self.send_response(404)
            self.send_header("X-Error-Code", code)
            self.send_header("content-length", "0")
            self.end_headers()

    do_HEAD = do_GET

    def _send_file(self, text: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(text)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha1(text).hexdigest()}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(text)


@pytest.fixture
def hub_url() -> Iterator[str]:
    server = LoopbackServer(Hubs)
    yield server.url
    server.close()


def converted(url: str, source: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Convert in a process of its own: both clients read their variables when they are imported."""
    program = (
        "import sys; from pathlib import Path; from corpus.converting import convert\n"
        "from corpus.errors import CorpusError\n"
        "try:\n    done = convert(sys.argv[1], Path(sys.argv[2]))\n"
        "except CorpusError as exc:\n    sys.exit(f'refused: {exc}')\n"
        "print(done.written, done.origins[0].revision, done.origins[0].name)"
    )
    variables = {
        "HF_ENDPOINT": url,
        "HF_HOME": str(home / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "MODELSCOPE_ENDPOINT": url,
        "MODELSCOPE_CACHE": str(home / "ms"),
        "MODELSCOPE_HOME": str(home / "ms"),
        "NO_PROXY": "127.0.0.1",
    }
    command = [sys.executable, "-c", program, source, str(home / "out.jsonl")]
    environment = os.environ | variables
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.corpus
@pytest.mark.parametrize(("hub", "revision"), [("hf", COMMIT), ("ms", "v1")])
def test_a_data_set_is_fetched_at_its_revision(hub_url: str, tmp_path: Path, hub: str, revision: str) -> None:
    run = converted(hub_url, f"{hub}://datasets/o/n@v1", tmp_path)
    assert (run.returncode, run.stdout.split()) == (0, ["1", revision, "data/train.jsonl"]), run.stderr
    assert json.loads((tmp_path / "out.jsonl").read_text())["messages"][1] == {"role": "assistant", "content": "A"}


@pytest.mark.corpus
def test_a_revision_or_file_that_is_not_there_is_refused(hub_url: str, tmp_path: Path) -> None:
    assert "has no revision 'v9'" in converted(hub_url, "hf://datasets/o/n@v9", tmp_path).stderr
    refused = converted(hub_url, "hf://datasets/o/n@v1/valid.jsonl", tmp_path).stderr
    assert "no such file. Its files: data/train.jsonl" in refused


@pytest.mark.parametrize(("source", "message"), [("hf://datasets/o/n", "no revision"), ("https://x/y", "no address")])
def test_an_address_names_its_revision(source: str, message: str) -> None:
    with pytest.raises(SourceRefused, match=message):
        parse_address(source)
