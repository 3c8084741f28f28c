"""Every environment that `lorry envs` builds: those of engines and those of tools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from engines.catalog import ENVIRONMENTS
from engines.kinds import SeparateEnvironment
from engines.tools import TOOLS

BUILT: Final[Mapping[str, SeparateEnvironment]] = {**ENVIRONMENTS, **TOOLS}
"""Name -> environment; `lorry envs list` shows them in this order."""
