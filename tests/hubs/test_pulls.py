"""Pulls by the hubs' own clients from a server that speaks their protocols: pinned, continued, checked, refused."""

from __future__ import annotations

import json
import random
import resource
import subprocess
import threading
from pathlib import Path

import pytest

from gateway.errors import PullRefused
from gateway.models_settings import HubName, ModelsSettings
from gateway.pools.pull import Pulled, PullGround, pull, pull_order
from hubs.errors import DiskRefused, FileAltered, HubRefused, HubUnreachable, NotPullable
from hubs.fetching import Progress
from registry.artifacts import folder_digest
from registry.database import Registry
from registry.errors import Conflict, NotFound
from registry.pulled.pulled_models import all_pulled, find_pulled, remove_pulled
from registry.pulled.verification import FileState, verify_pulled
from tests.gateway.cli.lorry_command import COMMAND, environment
from tests.hubs.hub_server import COMMIT, LATER, SMALL, HubModel, HubServer
from tests.waiting import wait_for

pytestmark = pytest.mark.corpus

WEIGHTS = random.Random(1).randbytes(25_000_000)  # some pieces of the clients, which are of 10 MB
LARGE = SMALL | {"model.safetensors": WEIGHTS}
BOTH: tuple[HubName, ...] = ("huggingface", "modelscope")


class Desk:
    """A registry and a folder, with what a pull shows and says."""

    def __init__(self, registry: Registry, folder: Path, settings: ModelsSettings | None = None) -> None:
        self.registry = registry
        self.folder = folder
        self.said: list[str] = []
        self.shown: list[int] = []
        self.settings = settings or ModelsSettings()

    def show(self, progress: Progress) -> None:
        self.said += [note for note in progress.notes if note not in self.said]
        self.shown.append(progress.kept_bytes + progress.received_bytes)

    def pull(self, asked: str, revision: str | None = None, hub: HubName = "huggingface") -> Pulled:
        ground = PullGround(
            registry=self.registry, settings=self.settings, folder=self.folder, show=self.show, say=self.said.append
        )
        return pull(pull_order(asked, revision, hub, "ann"), ground)


@pytest.fixture
def desk(sqlite_registry: Registry, tmp_path: Path) -> Desk:
    return Desk(sqlite_registry, tmp_path / "models")


@pytest.mark.parametrize("name", BOTH)
def test_a_pull_is_pinned_to_the_commit_of_its_branch_and_recorded(hub: HubServer, desk: Desk, name: HubName) -> None:
    hub.models["acme/tiny"].whole_ids = False
    base = desk.pull("acme/tiny", hub=name).base
    assert (base.name, base.digest, base.licence) == ("acme/tiny", folder_digest(Path(base.path)), "apache-2.0")
    record = base.provenance
    assert [record[fact] for fact in ("hub", "id", "commit", "pulled_by")] == [name, "acme/tiny", COMMIT, "ann"]
    assert set(record["files"]) == set(SMALL) - {"pytorch_model.bin"}
    entry = desk.registry.audit.list()[0]
    assert (entry.actor, entry.action, entry.subject) == ("ann", "base.pull", "acme/tiny")
    assert entry.detail["digest"] == base.digest
    before = len(hub.models["acme/tiny"].asked)
    assert desk.pull("acme/tiny", hub=name).was_there
    assert len(hub.models["acme/tiny"].asked) == before


@pytest.mark.parametrize("name", BOTH)
def test_a_cut_connection_is_continued_and_not_begun_anew(hub: HubServer, desk: Desk, name: HubName) -> None:
    model = hub.models["acme/tiny"] = HubModel(commits={COMMIT: LARGE}, cuts=[15_000_000])
    base = desk.pull("acme/tiny", hub=name).base
    assert (Path(base.path) / "model.safetensors").read_bytes() == WEIGHTS
    assert any(asked.startswith("bytes=") for asked in model.asked)
    assert model.sent["model.safetensors"] < 1.5 * len(WEIGHTS)
    assert any("model.safetensors: the connection was lost" in said for said in desk.said)
    assert desk.shown[-1] == sum(len(LARGE[path]) for path in base.provenance["files"])


def test_a_pull_that_failed_goes_on_where_it_ended(hub: HubServer, desk: Desk) -> None:
    model = hub.models["acme/tiny"] = HubModel(commits={COMMIT: LARGE}, cuts=[15_000_000, -503])
    with pytest.raises(HubUnreachable, match="answered 503; try again later"):
        desk.pull("acme/tiny")
    assert all_pulled(desk.registry) == []
    desk.pull("acme/tiny")
    assert model.sent["model.safetensors"] < 1.5 * len(WEIGHTS)
    assert model.asked[-1] != ""
    assert any("files are here from an earlier pull" in said for said in desk.said)


@pytest.mark.parametrize("path", ["model.safetensors", "config.json"])
def test_a_file_with_other_bytes_than_the_hub_names_is_refused_and_removed(
    hub: HubServer, desk: Desk, path: str
) -> None:
    hub.models["acme/tiny"].served[path] = bytes(len(SMALL[path]))
    with pytest.raises(FileAltered, match=rf"{path}: has the hash .* and the hub names"):
        desk.pull("acme/tiny")
    assert list(desk.folder.rglob(path)) == []
    hub.models["acme/tiny"].served.clear()
    assert desk.pull("acme/tiny").base.name == "acme/tiny"


@pytest.mark.parametrize(("name", "token"), [("huggingface", "HF_TOKEN"), ("modelscope", "MODELSCOPE_API_TOKEN")])
def test_a_gated_model_says_which_token_it_wants_and_opens_with_it(
    hub: HubServer, desk: Desk, name: HubName, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.models["acme/tiny"].is_gated = True
    hub.tokens.add("hf_right")
    with pytest.raises(HubRefused, match=rf"{token} is not set.*{hub.url}/.*acme/tiny"):
        desk.pull("acme/tiny", hub=name)
    monkeypatch.setenv(token, "hf_wrong")
    with pytest.raises(HubRefused, match=rf"the account of {token} has not been let in") as refused:
        desk.pull("acme/tiny", hub=name)
    assert "hf_wrong" not in str(refused.value)
    monkeypatch.setenv(token, "hf_right")
    base = desk.pull("acme/tiny", hub=name).base
    assert "hf_right" not in json.dumps(dict(base.provenance))


def test_organisations_and_licences_that_are_not_allowed_are_refused_with_those_that_are(
    hub: HubServer, desk: Desk
) -> None:
    desk.settings = ModelsSettings(organisations=("Qwen", "ACME"), licences=("mit", "Apache-2.0"))
    with pytest.raises(PullRefused, match=r"other is not among .* which allow: Qwen, ACME"):
        desk.pull("other/tiny")
    hub.models["acme/tiny"].licence = "llama3.1"
    with pytest.raises(PullRefused, match=r"its licence is llama3.1; .* allow: mit, Apache-2.0"):
        desk.pull("acme/tiny")
    hub.models["acme/tiny"].licence = "apache-2.0"
    assert desk.pull("acme/tiny").base.name == "acme/tiny"


def test_a_branch_that_moved_gives_a_second_model_and_the_id_alone_names_neither(hub: HubServer, desk: Desk) -> None:
    model = hub.models["acme/tiny"]
    first = desk.pull("acme/tiny").base
    model.commits[LATER] = SMALL | {"model.safetensors": b"v" * 20_000}
    model.branches["main"] = LATER
    second = desk.pull("acme/tiny").base
    assert (first.name, second.name) == ("acme/tiny", f"acme/tiny@{LATER[:7]}")
    assert first.digest != second.digest
    with pytest.raises(Conflict, match=f"pulled 2 times .*acme/tiny@{COMMIT}.*acme/tiny@{LATER}"):
        find_pulled(desk.registry, "acme/tiny")
    for asked, found in ((second.name, second), (f"acme/tiny@{COMMIT}", first), (f"acme/tiny@{COMMIT[:9]}", first)):
        assert find_pulled(desk.registry, asked) == found
    assert desk.pull(f"acme/tiny@{COMMIT}").was_there


@pytest.mark.parametrize("name", BOTH)
def test_an_id_that_is_not_there_suggests_what_is(hub: HubServer, desk: Desk, name: HubName) -> None:
    with pytest.raises(HubRefused, match="did you mean 'acme/tiny'"):
        desk.pull("acme/tyni", hub=name)
    with pytest.raises(HubRefused, match="'v9'"):
        desk.pull("acme/tiny", "v9", hub=name)
    for odd in ("tiny", "a/b/c", "acme/tiny@v1@v2", "../x"):
        with pytest.raises(PullRefused, match="is not the id of a model"):
            desk.pull(odd)
    with pytest.raises(PullRefused, match="names a revision already"):
        desk.pull("acme/tiny@v1", "v2")


@pytest.mark.parametrize("name", BOTH)
def test_a_model_that_was_renamed_is_asked_for_by_its_present_id(hub: HubServer, desk: Desk, name: HubName) -> None:
    hub.models["acme/tiny"].called = "other/Tiny"
    with pytest.raises(HubRefused, match="acme/tiny: is called 'other/Tiny' on its hub"):
        desk.pull("acme/tiny", hub=name)


def test_a_model_of_pickles_or_with_code_of_its_own(hub: HubServer, desk: Desk) -> None:
    pickles = {path: content for path, content in SMALL.items() if not path.endswith(".safetensors")}
    hub.models["acme/pickled"] = HubModel(commits={COMMIT: pickles})
    with pytest.raises(NotPullable, match=r"acme/pickled: .*pytorch_model.bin is a pickle"):
        desk.pull("acme/pickled")
    coded = SMALL | {"config.json": b'{"auto_map": {"AutoModel": "modeling_x.X"}}', "modeling_x.py": b"import os"}
    hub.models["acme/coded"] = HubModel(commits={COMMIT: coded})
    found = desk.pull("acme/coded")
    assert found.model.remote_code
    assert "modeling_x.py" not in found.model.files
    assert any("auto_map" in said for said in desk.said)


def test_two_pulls_at_once_fetch_every_file_once(hub: HubServer, desk: Desk, tmp_path: Path) -> None:
    model = hub.models["acme/tiny"]
    model.waits = threading.Event()
    other = Desk(desk.registry, desk.folder)
    found: list[Pulled] = []
    threads = [threading.Thread(target=lambda d=each: found.append(d.pull("acme/tiny"))) for each in (desk, other)]
    for thread in threads:
        thread.start()
    wait_for(lambda: any("another pull of it is under way" in said for said in [*desk.said, *other.said]))
    model.waits.set()
    for thread in threads:
        thread.join(60)
    assert sorted(each.was_there for each in found) == [False, True]
    assert len(model.asked) == len(SMALL) - 1


def test_verify_names_what_differs_and_remove_waits_for_the_last_user(hub: HubServer, desk: Desk) -> None:
    pulled = desk.pull("acme/tiny")
    folder = Path(pulled.base.path)
    assert {file.state for file in verify_pulled(folder, pulled.model)} == {FileState.OK}
    (folder / "config.json").write_bytes(b"{}")
    (folder / "tokenizer.json").unlink()
    (folder / "more.safetensors").write_bytes(b"")
    states = {file.path: file.state for file in verify_pulled(folder, pulled.model)}
    assert states["config.json"] is FileState.CHANGED
    assert states["tokenizer.json"] is FileState.MISSING
    assert states["more.safetensors"] is FileState.ADDED
    with pytest.raises(Conflict, match="in use by pool a of the settings"):
        remove_pulled(desk.registry, "acme/tiny", "ann", ["pool a of the settings"])
    remove_pulled(desk.registry, "acme/tiny", "ann")
    assert not folder.exists()
    with pytest.raises(NotFound):
        desk.registry.bases.get("acme/tiny")
    assert desk.registry.audit.list()[0].action == "base.remove"


def test_a_folder_without_its_row_is_checked_and_taken_over(hub: HubServer, desk: Desk) -> None:
    first = desk.pull("acme/tiny").base
    kept = Path(first.path).rename(desk.folder / "kept")
    remove_pulled(desk.registry, "acme/tiny", "ann")
    kept.rename(first.path)
    before = len(hub.models["acme/tiny"].asked)
    assert desk.pull("acme/tiny").base.digest == first.digest
    assert len(hub.models["acme/tiny"].asked) == before


def test_a_disk_without_room_is_refused_before_anything_is_fetched(hub: HubServer, desk: Desk) -> None:
    hub.models["acme/tiny"].sizes["model.safetensors"] = 49_000_000_000_000
    with pytest.raises(DiskRefused, match=r"the files need 49000.00 GB and the disk has .* GB free"):
        desk.pull("acme/tiny")
    assert hub.models["acme/tiny"].asked == []


def limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000_000, 12_000_000))


def test_a_disk_that_fills_up_leaves_what_was_received(hub: HubServer, tmp_path: Path) -> None:
    hub.models["acme/tiny"] = HubModel(commits={COMMIT: LARGE})
    command = [*COMMAND, "models", "pull", "acme/tiny"]
    variables = environment(hub.url, LORRY_HOME=str(tmp_path / "home"), **hub.environment(tmp_path))
    run = subprocess.run(
        command,
        env=variables,
        preexec_fn=limit_files,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 1
    assert "What was received is kept there: make room, and the same command goes on" in run.stderr
    assert "Traceback" not in run.stderr
    (part,) = (tmp_path / "home" / "models").rglob("model.safetensors.part")
    assert part.stat().st_size == 12_000_000
    again = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=False)
    assert again.returncode == 0, again.stderr
    assert hub.models["acme/tiny"].asked[-1] == "bytes=12000000-"
