"""One table of all schemes: the checkpoints that jobs make of a model, their scores, and their speed on each engine.

    python bench/engine/schemes.py --base FOLDER --work FOLDER [--home LORRY_HOME] [--rounds 3] [--most-minutes 20]

Each scheme's checkpoint is made by a job as `lorry quantize` queues it, with all texts waived, and stays in the folder
of the work. Each checkpoint is then served by each kind of engine beside the model in full precision, one pair of
servers at a time. Rounds ask one after the other, forwards and backwards: eight prompts one by one, then eight at once.
Tokens are those of answers; seconds are processor seconds of the server's processes, so that others on the machine
count less. `speeds.jsonl` of the work gets a line after each pair: the same command goes on after the last one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Event
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.engine.paired_speed import Bench, Pair, known_pairs, measure_pair
from engines.catalog import ENGINES
from engines.hardware.probe import read_machine
from engines.hardware.scheme_choice import why_refused
from engines.kinds import DEFAULT_KIND
from registry.artifacts import folder_digest
from registry.contracts.quantizations.quantization_report import TEXTS, QuantizationReport
from registry.contracts.quantizations.quantize_spec import QuantizeSpec
from registry.contracts.quantizations.schemes import Scheme, choose_group
from registry.database import Registry, open_registry
from registry.disk import Liveness
from registry.publishing.checks import base_modules, linear_modules
from registry.schema import migrate
from registry.settings import RegistrySettings
from registry.types import Base
from trainer.settings import TrainerSettings
from trainer.worker import Worker

ROWS: Final = Path(__file__).parents[2] / "examples" / "support.jsonl"
ORDER: Final = (
    Scheme.W8A8_INT8,
    Scheme.GGUF_Q8,
    Scheme.GGUF_Q4,
    Scheme.FP8,
    Scheme.W4A16_GPTQ,
    Scheme.W4A16_AWQ,
)
SAMPLES: Final = 24
"""Rows that calibrate, drawn by the seed; 32 others of the file's 240 are scored."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--home", type=Path, default=Path("~/.lorry").expanduser())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--most-minutes", type=float, default=20.0, help="longest time of a pair")
    parser.add_argument("--kinds", nargs="*", default=[DEFAULT_KIND, "vllm"])
    parser.add_argument("--schemes", nargs="*", type=Scheme, default=list(ORDER))
    options = parser.parse_args()
    os.environ["LORRY_HOME"] = str(options.home)
    made = checkpoints(options.base, options.work, options.schemes)
    bench = Bench(
        full=options.base,
        home=options.home,
        work=options.work,
        rounds=options.rounds,
        most_s=60.0 * options.most_minutes,
        tell=tell,
    )
    print_table(options.kinds, made, measured(bench, options.kinds, made))


def tell(sentence: str) -> None:
    """Show progress with the time."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {sentence}\n")


def measured(bench: Bench, kinds: list[str], made: Mapping[Scheme, Base]) -> dict[tuple[str, str], Pair]:
    """Return kind and scheme -> what was measured, in this run or before it ended."""
    file = bench.work / "speeds.jsonl"
    found = known_pairs(file)
    for kind in kinds:
        for scheme, base in made.items():
            if (kind, scheme) not in found:
                found[kind, scheme] = measure_pair(bench, kind, scheme, Path(base.path), file)
    return found


def checkpoints(base_folder: Path, work: Path, schemes: list[Scheme]) -> dict[Scheme, Base]:
    """Return the checkpoint of each of *schemes*, made where it is not there yet."""
    work.mkdir(parents=True, exist_ok=True)
    settings = RegistrySettings(url=f"sqlite:///{work / 'registry.db'}", artifacts=work / "artifacts")
    migrate(settings.url)
    registry = open_registry(settings)
    try:
        digest = folder_digest(base_folder)
        base = Base(name="full", path=str(base_folder), digest=digest, licence="unknown", created_at=time.time())
        registry.bases.enter(base)
        for scheme in schemes:
            if scheme not in known(registry):
                quantize(registry, base, scheme, work)
        made = known(registry)
        return {scheme: made[scheme] for scheme in schemes if scheme in made}
    finally:
        registry.close()


def known(registry: Registry) -> dict[Scheme, Base]:
    """Return scheme -> the checkpoint with its provenance."""
    checkpoints = [registry.bases.get(each.name) for each in registry.bases.list() if each.is_checkpoint]
    return {Scheme(each.provenance["scheme"]): each for each in checkpoints}


def quantize(registry: Registry, base: Base, scheme: Scheme, work: Path) -> None:
    """Make the checkpoint by a job, in this process's worker."""
    lines = ROWS.read_bytes().splitlines(keepends=True)
    file = registry.files.add(lines, filename=ROWS.name, purpose="fine-tune", owner="bench")
    widths = {shape[1] for shape in linear_modules(base_modules(Path(base.path))).values()}
    spec = QuantizeSpec(
        base=base.name,
        base_digest=base.digest,
        adapter=str(scheme),
        source=base.name,
        scheme=scheme,
        group_size=choose_group(scheme, widths).size,
        calibration_file=file.id,
        samples=SAMPLES,
        max_length=160,
        seed=7,
        waived=TEXTS,
    )
    job = registry.jobs.create(spec, "bench")
    worker = Worker(registry, TrainerSettings(work=work / "jobs", nice=0), "bench", Liveness(work, "bench"))
    while not registry.jobs.get(job.id).state.is_terminal:  # a job that a broken run left comes first
        worker.work_once(Event())
    ended = registry.jobs.get(job.id)
    tell(f"{scheme}: {ended.state} {'' if ended.error is None else ended.error.message}")


def print_table(kinds: list[str], made: Mapping[Scheme, Base], pairs: Mapping[tuple[str, str], Pair]) -> None:
    """Print a row for each scheme, and below it why engines do not serve some."""
    columns = [f"{kind}: 1, 8 sequences; MB" for kind in kinds]
    heads = ["scheme", "MB", "bits per weight (linear)", *TEXTS, "agreement, same answers", *columns]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    speeds = [full_speed([each for each in pairs.values() if each.kind == kind]) for kind in kinds]
    print(f"| none | {' | '.join([*full_cells(made), *speeds])} |")
    for scheme, base in made.items():
        cells = cells_of(QuantizationReport.model_validate(base.provenance["quantization"]))
        print(f"| `{scheme}` | {' | '.join([*cells, *(speed_of(pairs[kind, scheme]) for kind in kinds)])} |")
    print()
    for pair in pairs.values():
        if pair.refused:
            print(f"- `{pair.kind}`, `{pair.scheme}`: {pair.refused.splitlines()[0][:300]}")
    machine = read_machine()
    for kind in sorted(set(ENGINES) - set(kinds)):
        print(f"- `{kind}`: {why_refused(kind, Scheme.W8A8_INT8, machine)}")


def full_cells(made: Mapping[Scheme, Base]) -> list[str]:
    """Return the cells of the model in full precision, which every report has."""
    report = QuantizationReport.model_validate(next(iter(made.values())).provenance["quantization"])
    return [
        f"{report.base_size_bytes / 1e6:.1f}",
        "16",
        *(f"{report.perplexity[name].before:.2f}" for name in TEXTS),
        "",
    ]


def cells_of(report: QuantizationReport) -> list[str]:
    """Return the cells of a checkpoint."""
    linear = "" if report.linear_bits_per_weight is None else f" ({report.linear_bits_per_weight:.2f})"
    scores = [report.perplexity[name] for name in TEXTS]
    return [
        f"{report.size_bytes / 1e6:.1f}",
        f"{report.bits_per_weight:.2f}{linear}",
        *(f"{each.after:.2f} ({each.rise:+.1%})" for each in scores),
        f"{report.agreement:.0%}, {report.same_answers:.0%}",
    ]


def full_speed(pairs: list[Pair]) -> str:
    """Return tokens per processor second of the model in full precision, over the rounds of all pairs, and memory."""
    there = [pair.full for pair in pairs if not pair.refused]
    if not there:
        return "not measured"
    alone, at_once = (
        [speed for each in there for speed in each.alone],
        [speed for each in there for speed in each.at_once],
    )
    megabytes = statistics.median(each.megabytes for each in there)
    return f"{statistics.median(alone):.1f}, {statistics.median(at_once):.1f}; {megabytes:,.0f}"


def speed_of(pair: Pair) -> str:
    """Return tokens per processor second with the median ratio to the full model in each round, and memory."""
    if pair.refused:
        return "no"
    parts = [compared(pair.checkpoint.alone, pair.full.alone), compared(pair.checkpoint.at_once, pair.full.at_once)]
    return f"{', '.join(parts)}; {pair.checkpoint.megabytes:,.0f}"


def compared(own: list[float], full: list[float]) -> str:
    """Return the median of *own* and that of the ratios, round by round."""
    ratio = statistics.median(here / there for here, there in zip(own, full, strict=True))
    return f"{statistics.median(own):.1f} ({ratio:.2f})"


if __name__ == "__main__":
    main()
