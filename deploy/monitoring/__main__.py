"""Write the dashboards as Grafana imports them: `make dashboards`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.monitoring.boards.engines import ENGINES
from deploy.monitoring.boards.gateways import GATEWAYS
from deploy.monitoring.boards.jobs import JOBS
from deploy.monitoring.boards.overview import OVERVIEW
from deploy.monitoring.boards.rollouts import ROLLOUTS
from deploy.monitoring.panels import built

BOARDS: Final = (OVERVIEW, GATEWAYS, ENGINES, ROLLOUTS, JOBS)
FOLDER: Final = Path(__file__).parent / "grafana"


def dashboards() -> dict[str, str]:
    """Return the JSON of each dashboard by the name of its file."""
    made = {}
    for board in BOARDS:
        fields = json.loads(json.dumps(built(board, BOARDS), cls=JSONEncoder))
        made[f"{board.uid}.json"] = json.dumps(fields, indent=2, sort_keys=True) + "\n"
    return made


def main() -> None:
    """Write every dashboard into its file."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in dashboards().items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
