"""An environment is complete or not ready, and a build that was interrupted continues."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from engines.catalog import ENVIRONMENTS
from engines.environments.build import BuildPlan, build_environment
from engines.environments.pinned_list import LISTS, REPOSITORY, VARIANTS, has_list, list_digest, read_list
from engines.environments.record import (
    EnvironmentState,
    environment_folder,
    environment_state,
    read_record,
    ready_environments,
    ready_interpreter,
    write_record,
)
from engines.environments.removal import remove_environment
from engines.errors import EnvironmentFailed, EnvironmentMissing
from engines.kinds import SeparateEnvironment
from engines.tools import TOOLS
from tests.engines.environments.wheels import write_wheel
from tests.waiting import wait_for

TINY = {"tiny": SeparateEnvironment(distributions=("tiny",), check="import tiny, needed")}
LIST = """# A tiny engine.
./{needed}
./tiny-1.2-py3-none-any.whl

#: remove heavy*.so
"""


class Heard:
    """A progress that records the output of a build."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.lines: list[str] = []

    def step(self, number: int, total: int, name: str) -> None:
        self.steps.append(f"{number}/{total} {name}")

    def output(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def plan(tmp_path: Path) -> BuildPlan:
    """A plan for an environment of two small wheels."""
    packages, lists = tmp_path / "packages", tmp_path / "lists"
    packages.mkdir()
    lists.mkdir()
    needed = write_wheel(packages, "needed", "3", "")
    write_wheel(packages, "tiny", "1.2", "", heavy1__so="", heavy__txt="")
    (lists / "tiny-cpu.txt").write_text(LIST.format(needed=needed))
    return BuildPlan(home=tmp_path / "home", kind="tiny", variant="cpu", kinds=TINY, lists=lists, repository=packages)


def state(plan: BuildPlan) -> EnvironmentState:
    digest = list_digest(plan.lists / "tiny-cpu.txt", plan.repository)
    return environment_state(read_record(plan.home, plan.kind), digest)


def test_an_environment_is_built_checked_and_then_left_alone(plan: BuildPlan) -> None:
    assert state(plan) is EnvironmentState.ABSENT
    with pytest.raises(EnvironmentMissing, match="lorry envs install tiny"):
        ready_interpreter(plan.home, "tiny")

    heard = Heard()
    record = build_environment(plan, heard)

    assert heard.steps == ["1/2 installing 2 packages", "2/2 importing tiny"]
    assert any("+ tiny==1.2" in line for line in heard.lines)
    assert (record.version, state(plan)) == ("1.2", EnvironmentState.READY)
    assert record.size_bytes is not None and record.size_bytes > 1e4
    there = {path.name for path in environment_folder(plan.home, "tiny").glob("lib/python3*/site-packages/heavy*")}
    assert there == {"heavy.txt"}
    python = ready_interpreter(plan.home, "tiny")
    assert subprocess.run([python, "-I", "-c", "import tiny"], check=False).returncode == 0

    again = Heard()
    assert build_environment(plan, again) == record
    assert (again.steps, again.lines) == ([], [])

    stray = environment_folder(plan.home, "tiny") / "stray"
    stray.touch()
    write_wheel(plan.repository, "needed", "3", "changed = True")
    assert state(plan) is EnvironmentState.OUTDATED
    assert ready_interpreter(plan.home, "tiny") == python

    afresh = Heard()
    build_environment(plan, afresh)
    assert (state(plan), stray.exists(), len(afresh.steps)) == (EnvironmentState.READY, False, 2)


def test_an_environment_is_removed_once_nothing_runs_from_it(plan: BuildPlan) -> None:
    with pytest.raises(EnvironmentFailed, match="'steam' is not one of tiny"):
        remove_environment(plan.home, "steam", plan.kinds)
    assert remove_environment(plan.home, "tiny", plan.kinds) is None
    build_environment(plan, Heard())
    python = ready_interpreter(plan.home, "tiny")
    with subprocess.Popen([python, "-c", "input()"], stdin=subprocess.PIPE) as user:
        with pytest.raises(EnvironmentFailed, match=f"in use by process {user.pid}"):
            remove_environment(plan.home, "tiny", plan.kinds)
        user.communicate(b"\n")
    assert remove_environment(plan.home, "tiny", plan.kinds) == environment_folder(plan.home, "tiny")
    assert state(plan) is EnvironmentState.ABSENT


def test_a_failed_step_tells_why_and_the_next_build_goes_on_there(plan: BuildPlan) -> None:
    broken = {"tiny": replace(TINY["tiny"], check="import tiny, absent")}
    with pytest.raises(EnvironmentFailed, match=r"exited with 1; it ended with:[\s\S]*No module named 'absent'"):
        build_environment(replace(plan, kinds=broken), Heard())
    assert state(plan) is EnvironmentState.PARTIAL
    with pytest.raises(EnvironmentMissing, match="goes on where it stopped"):
        ready_interpreter(plan.home, "tiny")

    heard = Heard()
    build_environment(plan, heard)
    assert (heard.steps, state(plan)) == (["2/2 importing tiny"], EnvironmentState.READY)


def test_a_killed_build_leaves_no_process_and_is_gone_on_with(plan: BuildPlan, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    places = [str(place) for place in (plan.home, plan.lists, plan.repository, gate)]
    builder = subprocess.Popen(
        [sys.executable, "-m", "tests.engines.environments.doomed_build", *places], cwd=REPOSITORY
    )
    try:
        wait_for(lambda: is_installed(plan) and len(started_by(builder)) == 2, timeout_s=90)
        with pytest.raises(
            EnvironmentFailed, match="another `lorry envs install tiny` or `lorry envs remove tiny` runs"
        ):
            build_environment(plan, Heard())
        checking = started_by(builder)
    finally:
        builder.send_signal(signal.SIGKILL)
        builder.wait()
    psutil.wait_procs(checking, timeout=60)
    assert not any(child.is_running() for child in checking)
    assert state(plan) is EnvironmentState.PARTIAL

    heard = Heard()
    build_environment(plan, heard)
    assert (heard.steps, state(plan)) == (["2/2 importing tiny"], EnvironmentState.READY)


def started_by(builder: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The launcher of the running step, and what it launched."""
    found: list[psutil.Process] = psutil.Process(builder.pid).children(recursive=True)
    return found


def is_installed(plan: BuildPlan) -> bool:
    record = read_record(plan.home, plan.kind)
    return record is not None and record.is_installed


def test_nothing_is_built_upon_an_installation_that_was_killed(plan: BuildPlan) -> None:
    record = build_environment(plan, Heard())
    module = next(environment_folder(plan.home, "tiny").glob("lib/python3*/site-packages/needed.py"))
    module.unlink()  # as a killed installer leaves it: listed as installed, and there in part
    write_record(plan.home, record.model_copy(update={"is_installed": False, "version": None}))
    assert state(plan) is EnvironmentState.PARTIAL

    assert build_environment(plan, Heard()).version == record.version
    assert module.exists()


def test_what_is_not_in_the_list_does_not_stay(plan: BuildPlan) -> None:
    (plan.lists / "tiny-cpu.txt").write_text("./tiny-1.2-py3-none-any.whl\n./needed-3-py3-none-any.whl\n")
    build_environment(plan, Heard())
    (plan.lists / "tiny-cpu.txt").write_text("./tiny-1.2-py3-none-any.whl\n")
    alone = {"tiny": replace(TINY["tiny"], check="import tiny")}
    build_environment(replace(plan, kinds=alone), Heard())
    assert not list(environment_folder(plan.home, "tiny").glob("lib/python3*/site-packages/needed*"))


def test_a_folder_without_a_readable_record_counts_as_begun(tmp_path: Path) -> None:
    folder = environment_folder(tmp_path, "vllm")
    folder.mkdir(parents=True)
    assert environment_state(read_record(tmp_path, "vllm"), None) is EnvironmentState.PARTIAL
    (folder / "lorry-environment.json").write_text("{")
    assert environment_state(read_record(tmp_path, "vllm"), None) is EnvironmentState.PARTIAL
    assert ready_environments(tmp_path) == frozenset()


def test_what_cannot_be_built_is_refused_with_what_there_is(plan: BuildPlan) -> None:
    (plan.lists / "tiny-amd.txt").write_text("#: image registry/tiny:1\n")
    with pytest.raises(EnvironmentFailed, match="container image only: registry/tiny:1"):
        build_environment(replace(plan, variant="amd"), Heard())
    with pytest.raises(EnvironmentFailed, match="there are: tiny-amd, tiny-cpu"):
        build_environment(replace(plan, variant="tpu"), Heard())
    with pytest.raises(EnvironmentFailed, match="'vllm' is not one of tiny"):
        build_environment(replace(plan, kind="vllm"), Heard())
    assert not plan.home.exists()
    plan.home.write_text("a file")
    with pytest.raises(EnvironmentFailed, match="cannot be written"):
        build_environment(plan, Heard())


@pytest.mark.parametrize(("text", "message"), [("#: stop x\n", "'stop' is not one of remove, image")])
def test_a_wrong_list_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.txt").write_text(text)
    with pytest.raises(EnvironmentFailed, match=f"line 1: .*{message}"):
        read_list(tmp_path / "x.txt")


ENGINE_LISTS = [(kind, variant) for kind in ENVIRONMENTS for variant in VARIANTS]
TOOL_LISTS = [(tool, variant) for tool in TOOLS for variant in VARIANTS if variant == "cpu" or has_list(tool, variant)]


@pytest.mark.parametrize(("kind", "variant"), [*ENGINE_LISTS, *TOOL_LISTS])
def test_every_list_is_exact_and_complete_or_names_an_image(kind: str, variant: str) -> None:
    path = LISTS / f"{kind}-{variant}.txt"
    pinned = read_list(path)
    requirements = pinned.requirements
    assert bool(pinned.image) != bool(requirements)
    names = [line.partition("==")[0] for line in requirements]
    assert len(names) == len(set(names))
    for line in requirements:
        assert (REPOSITORY / line).is_dir() if line.startswith("./") else line.count("==") == 1, line
    if variant == "cpu":
        assert {line for line in requirements if line.startswith("torch==")} <= {"torch==2.13.0"}
    elif requirements:
        assert "NOT run" in path.read_text()
