"""A page of another site, and another user of the machine, against a Lorry that has no key yet.

A developer runs Lorry on a laptop and opens a page in a real browser. The page sends what a page may send, and its name
is made to resolve to 127.0.0.1, as after DNS rebinding.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import psutil
import pytest

from tests.chromium import page_in_browser
from tests.loopback import LoopbackHandler, LoopbackServer
from tests.trainer.tiny_base import save_base
from tests.up_process import Up

pytestmark = pytest.mark.scenario

BASE = "tiny"
ATTACKER = "other.example"
REBOUND = "rebound.example"
FRIEND = "friend.example"
CONFIG = """
[gateway]
cors_origins = ["http://{friend}:{port}"]

[[engines.pools]]
name = "small"
base = "{base}"
engine = {{ max_context = 256, max_batch = 8 }}
"""
ATTACK = """<!doctype html><body><form id=f method=post enctype=text/plain target=frame
 action="{lorry}/admin/keys"><input name='{{"name":"stolen","x":"' value='"}}'></form><iframe name=frame></iframe>
<img src="{lorry}/admin/audit"><script src="{lorry}/v1/models"></script><pre id=out></pre><script>
const said = [], lorry = "{lorry}";
async function attempt(name, path, options) {{
  try {{ const answer = await fetch(lorry + path, options);
    said.push(name + " " + answer.type + " " + answer.status + " " + (await answer.text()).slice(0, 60)); }}
  catch (error) {{ said.push(name + " failed"); }}
}}
(async () => {{
  document.getElementById("f").submit();
  const simple = {{method: "POST", mode: "no-cors", headers: {{"content-type": "text/plain"}}}};
  await attempt("key", "/admin/keys", {{...simple, body: '{{"name": "stolen"}}'}});
  const untyped = new Blob(['{{"name": "stolen"}}']);
  await attempt("untyped", "/admin/keys", {{method: "POST", mode: "no-cors", body: untyped}});
  await attempt("folder", "/admin/adapters/stolen/revisions", {{...simple, body: "tar"}});
  await attempt("chat", "/v1/chat/completions", {{...simple, body: '{chat}'}});
  const form = new FormData(); form.append("purpose", "fine-tune"); form.append("file", new Blob(['{row}']), "a.jsonl");
  await attempt("file", "/v1/files", {{method: "POST", mode: "no-cors", body: form}});
  const json = {{"content-type": "application/json"}};
  await attempt("json", "/admin/keys", {{method: "POST", headers: json, body: "{{}}"}});
  await attempt("read", "/v1/models", {{}});
  document.getElementById("out").textContent = said.join("\\n") + "\\ndone";
}})();
</script>"""
CHAT = {"model": BASE, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
ROW = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}


class PageHandler(LoopbackHandler):
    """Serves the attack to whatever name it is asked by."""

    lorry = ""

    def do_GET(self) -> None:
        page = ATTACK.format(lorry=self.lorry, chat=json.dumps(CHAT), row=json.dumps(ROW))
        self.reply(200, page.encode(), "text/html")


@pytest.fixture(scope="module")
def pages() -> Iterator[LoopbackServer]:
    """The web server of the other site."""
    server = LoopbackServer(PageHandler)
    yield server
    server.close()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, pages: LoopbackServer) -> str:
    """A tiny base, and a single origin that may use the gateway."""
    folder: Path = tmp_path_factory.mktemp("base") / BASE
    save_base(folder)
    return CONFIG.format(friend=FRIEND, port=pages.url.rpartition(":")[2], base=folder)


@pytest.fixture(scope="module", autouse=True)
def secret() -> Iterator[None]:
    """A secret of another part, in the environment of whoever starts Lorry; a umask that keeps nothing private."""
    os.environ["PGPASSWORD"] = os.environ["LORRY_TRACES_HEADERS"] = "a=another-parts-secret"
    before = os.umask(0)
    yield
    os.umask(before)
    del os.environ["PGPASSWORD"], os.environ["LORRY_TRACES_HEADERS"]


def shown(up: Up, pages: LoopbackServer, name: str) -> str:
    """Return the page of *name* after it has attacked the gateway."""
    PageHandler.lorry = up.url
    return page_in_browser(f"http://{name}:{pages.url.rpartition(':')[2]}/", ATTACKER, REBOUND, FRIEND)


def test_a_page_of_another_site_does_and_reads_nothing(up: Up, pages: LoopbackServer) -> None:
    page = shown(up, pages, ATTACKER)
    assert "done" in page
    assert "key opaque" in page  # it was sent, and the page cannot see that it was refused
    assert "read failed" in page
    assert json.loads(up.lorry("keys", "list", "--json")) == []
    assert httpx2.get(f"{up.url}/v1/files").json()["data"] == []
    assert json.loads(up.lorry("audit", "--json")) == []
    assert httpx2.get(f"{up.url}/metrics").text.count('outcome="ok"') == 0


def test_a_name_that_was_rebound_to_this_machine_reads_nothing(up: Up) -> None:
    port = up.url.rpartition(":")[2]
    for path in ("/v1/models", "/v1/files", "/admin/keys"):
        page = page_in_browser(f"http://{REBOUND}:{port}{path}", REBOUND)
        assert "host_not_allowed" in page
        assert "allowed_hosts" in page
        assert '"list"' in page_in_browser(f"http://localhost:{port}{path}", REBOUND)


def test_a_page_of_an_allowed_origin_reads_models(up: Up, pages: LoopbackServer) -> None:
    page = shown(up, pages, FRIEND)
    assert "read cors 200" in page
    assert "json cors 400" in page  # let in, and told that a key needs a name


def command_of(process: psutil.Process) -> list[str]:
    """Return the command line of *process*, nothing if it has ended meanwhile."""
    with suppress(psutil.Error):
        return process.cmdline()
    return []


def test_other_users_of_the_machine_find_no_open_file_port_or_secret(up: Up, home: Path) -> None:
    assert home.stat().st_mode & 0o077 == 0
    private = [home / "registry.db", home / "artifacts", *(home / "logs").iterdir()]
    assert [path for path in private if path.stat().st_mode & 0o077] == []
    tree = psutil.Process(up.process.pid).children(recursive=True)
    engines = [process for process in tree if "engines.transformers" in command_of(process)]
    assert engines
    assert "another-parts-secret" not in "".join(value for engine in engines for value in engine.environ().values())
    for process in tree:
        if {Path(word).name for word in command_of(process)[:1]} & {"gcs_server", "raylet"}:
            found = [at.laddr.ip for at in process.net_connections() if at.status == psutil.CONN_LISTEN]
            assert {ip.removeprefix("::ffff:") for ip in found} == {"127.0.0.1"}
