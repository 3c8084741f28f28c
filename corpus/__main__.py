"""`python -m corpus FILE NAME [MODEL_FOLDER MODEL_NAME]` prints the report on a file as JSON."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from corpus.errors import CorpusError
from corpus.examination import Wishes, examine


def main() -> int:
    """Print the report, at the lowest priority, and return 0; 2 with the reason where there is none."""
    os.nice(19)
    file, name, *model = sys.argv[1:]
    folder, model_name = (Path(model[0]), model[1]) if model else (None, None)
    try:
        report = examine(Path(file), Wishes(model=folder, model_name=model_name, processes=1), name)
    except CorpusError as exc:
        sys.stderr.write(str(exc))
        return 2
    sys.stdout.write(report.model_dump_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
