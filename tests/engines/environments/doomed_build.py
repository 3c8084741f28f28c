"""`python -m tests.engines.environments.doomed_build HOME LISTS REPOSITORY GATE`: a build that waits to be killed."""

from __future__ import annotations

import sys
from pathlib import Path

from engines.environments.build import BuildPlan, build_environment
from engines.kinds import SeparateEnvironment


class Silent:
    """Watches and says nothing."""

    def step(self, number: int, total: int, name: str) -> None:
        """Nothing."""

    def output(self, text: str) -> None:
        """Nothing."""


def main() -> None:
    home, lists, repository, gate = map(Path, sys.argv[1:])
    kinds = {"tiny": SeparateEnvironment(distributions=("tiny",), check=f"open({str(gate)!r}).read()")}
    plan = BuildPlan(home=home, kind="tiny", variant="cpu", kinds=kinds, lists=lists, repository=repository)
    build_environment(plan, Silent())


if __name__ == "__main__":
    main()
