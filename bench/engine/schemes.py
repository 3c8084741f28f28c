"""One table of all schemes: the checkpoints that jobs make of a model, their scores, and their speed on each engine.

    python bench/engine/schemes.py --base FOLDER --work FOLDER [--home LORRY_HOME] [--rounds 3]

Each scheme's checkpoint is made by a job as `lorry quantize` queues it, with all texts waived, and stays in the folder
of the work. Every pair of a kind of engine and a checkpoint is then started, all servers side by side, with one thread
each. Rounds ask one after the other, forwards and backwards: eight prompts one by one, then eight at once. Tokens are
those of answers; seconds are processor seconds of the server's processes, so that others on the machine count less.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any, Final

import httpx2
import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))

from engines.address import authorization_of, shown_address
from engines.catalog import ENGINES, build_engine
from engines.errors import EngineError
from engines.hardware.probe import read_machine
from engines.hardware.scheme_choice import why_refused
from engines.kinds import DEFAULT_KIND
from engines.proving.load_test import PROMPTS
from engines.proving.trials import Tried, trial_settings
from registry.artifacts import folder_digest
from registry.contracts.quantizations.quantization_report import TEXTS, QuantizationReport
from registry.contracts.quantizations.quantize_spec import QuantizeSpec
from registry.contracts.quantizations.schemes import SCHEMES, Scheme, choose_group
from registry.database import Registry, migrate, open_registry
from registry.disk import Liveness
from registry.publishing.checks import base_modules, linear_modules
from registry.settings import RegistrySettings
from registry.types import Base
from trainer.settings import TrainerSettings
from trainer.worker import Worker

ROWS: Final = Path(__file__).parents[2] / "examples" / "support.jsonl"
FULL: Final = "unquantized"
ORDER: Final = (
    Scheme.W8A8_INT8,
    Scheme.GGUF_Q8,
    Scheme.GGUF_Q4,
    Scheme.FP8,
    Scheme.W4A16_GPTQ,
    Scheme.W4A16_AWQ,
)
TOKENS: Final = 32
MOST_ROWS: Final = 60
"""Rows of the file that are used: 12 of them are scored, 24 calibrate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running server, and tokens per processor second in each round: alone, and eight at once."""

    engine: Any
    name: str
    process: psutil.Process
    alone: list[float] = field(default_factory=list)
    at_once: list[float] = field(default_factory=list)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--home", type=Path, default=Path("~/.lorry").expanduser())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kinds", nargs="*", default=[DEFAULT_KIND, "vllm"])
    parser.add_argument("--schemes", nargs="*", type=Scheme, default=list(ORDER))
    options = parser.parse_args()
    os.environ["LORRY_HOME"] = str(options.home)
    made = checkpoints(options.base, options.work, options.schemes)
    folders = {FULL: options.base, **{scheme: Path(base.path) for scheme, base in made.items()}}
    speeds = asyncio.run(measured(folders, options.kinds, options.home, options.work, options.rounds))
    print_table(options.kinds, made, speeds)


def checkpoints(base_folder: Path, work: Path, schemes: list[Scheme]) -> dict[str, Base]:
    """Return the checkpoint of each of *schemes*, made where it is not there yet."""
    work.mkdir(parents=True, exist_ok=True)
    settings = RegistrySettings(url=f"sqlite:///{work / 'registry.db'}", artifacts=work / "artifacts")
    migrate(settings.url)
    registry = open_registry(settings)
    try:
        digest = folder_digest(base_folder)
        base = Base(name="full", path=str(base_folder), digest=digest, licence="unknown", created_at=time.time())
        registry.bases.enter(base)
        there = {each.provenance["scheme"]: each for each in known(registry)}
        for scheme in schemes:
            if scheme not in there:
                quantize(registry, base, scheme, work)
        return {each.provenance["scheme"]: each for each in known(registry) if each.provenance["scheme"] in schemes}
    finally:
        registry.close()


def known(registry: Registry) -> list[Base]:
    """Return the checkpoints with their provenance."""
    return [registry.bases.get(each.name) for each in registry.bases.list() if each.is_checkpoint]


def quantize(registry: Registry, base: Base, scheme: Scheme, work: Path) -> None:
    """Make the checkpoint by a job, in this process's worker."""
    lines = ROWS.read_bytes().splitlines(keepends=True)[:MOST_ROWS]
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
        samples=24,
        max_length=160,
        seed=7,
        waived=TEXTS,
    )
    job = registry.jobs.create(spec, "bench")
    Worker(registry, TrainerSettings(work=work / "jobs", nice=0), "bench", Liveness(work, "bench")).work_once(Event())
    ended = registry.jobs.get(job.id)
    sys.stderr.write(f"{scheme}: {ended.state} {'' if ended.error is None else ended.error.message}\n")


async def measured(
    folders: Mapping[str, Path], kinds: list[str], home: Path, work: Path, rounds: int
) -> dict[tuple[str, str], Server | str]:
    """Return kind and scheme -> the server with its figures, or why there is none."""
    found: dict[tuple[str, str], Server | str] = {}
    for kind in kinds:
        for scheme, folder in folders.items():
            found[kind, scheme] = await started(kind, scheme, folder, home, work)
            sys.stderr.write(
                f"{kind}, {scheme}: {'runs' if isinstance(found[kind, scheme], Server) else found[kind, scheme]}\n"
            )
    running = [each for each in found.values() if isinstance(each, Server)]
    try:
        for number in range(-1, rounds):  # the first round warms up
            for server in running if number % 2 == 0 else running[::-1]:
                alone, at_once = await asked(server, together=False), await asked(server, together=True)
                if number >= 0:
                    server.alone.append(alone)
                    server.at_once.append(at_once)
        return {at: each if isinstance(each, str) else await weighed(each) for at, each in found.items()}
    finally:
        for server in running:
            await server.engine.stop(5.0)


async def weighed(server: Server) -> Server:
    """Return the server with its name replaced by its memory in MB: it ends before the table is printed."""
    found = await server.engine.memory_bytes()
    return Server(
        engine=server.engine,
        name=f"{(found or 0) / 1e6:,.0f}",
        process=server.process,
        alone=server.alone,
        at_once=server.at_once,
    )


async def started(kind: str, scheme: str, folder: Path, home: Path, work: Path) -> Server | str:
    """Return a running server, or why there is none."""
    if scheme in SCHEMES and SCHEMES[Scheme(scheme)].gguf_type and (why := why_refused(kind, scheme, read_machine())):
        return why
    tried = Tried(kinds=(kind,), checkpoint=folder, original=folder, home=home, logs=work)
    before = {each.pid for each in psutil.Process().children()}
    try:
        engine = build_engine(trial_settings(kind, folder, tried, read_machine()))
        await engine.start()
    except EngineError as exc:
        return str(exc)
    (process,) = (each for each in psutil.Process().children() if each.pid not in before)
    return Server(engine=engine, name=scheme, process=process)


async def asked(server: Server, *, together: bool) -> float:
    """Return the tokens of answers per processor second of the server."""
    url = server.engine.base_url
    began = seconds_of(server.process)
    async with httpx2.AsyncClient(
        base_url=shown_address(url), headers=authorization_of(url), timeout=600.0, trust_env=False
    ) as http:
        if together:
            counts = await asyncio.gather(*(answer(http, prompt) for prompt in PROMPTS))
        else:
            counts = [await answer(http, prompt) for prompt in PROMPTS]
    return sum(counts) / (seconds_of(server.process) - began)


async def answer(http: httpx2.AsyncClient, prompt: str) -> int:
    """Return the number of tokens of an answer."""
    body = {
        "model": "trial",
        "messages": [{"role": "user", "content": prompt}],
        "temperature": 0,
        "max_tokens": TOKENS,
    }
    found = await http.post("/v1/chat/completions", json=body)
    found.raise_for_status()
    return int(found.json()["usage"]["completion_tokens"])


def seconds_of(process: psutil.Process) -> float:
    """Return the processor seconds of a process and all that it started."""
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return float(sum(each.user + each.system for each in times))


def print_table(kinds: list[str], made: Mapping[str, Base], speeds: Mapping[tuple[str, str], Server | str]) -> None:
    """Print a row for each scheme, and below it why engines do not serve some."""
    columns = [f"{kind}: 1, 8 sequences; MB" for kind in kinds]
    heads = ["scheme", "MB", "bits per weight (linear)", *TEXTS, "agreement, same answers", *columns]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for scheme in (FULL, *made):
        report = None if scheme == FULL else QuantizationReport.model_validate(made[scheme].provenance["quantization"])
        cells = full_cells(made) if report is None else cells_of(report)
        print(f"| {scheme} | {' | '.join([*cells, *(speed_of(kind, scheme, speeds) for kind in kinds)])} |")
    print()
    for (kind, scheme), found in speeds.items():
        if isinstance(found, str):
            print(f"- `{kind}`, `{scheme}`: {found.splitlines()[0][:300]}")
    machine = read_machine()
    for kind in set(ENGINES) - set(kinds):
        print(f"- `{kind}`: {why_refused(kind, Scheme.W8A8_INT8, machine)}")


def full_cells(made: Mapping[str, Base]) -> list[str]:
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


def speed_of(kind: str, scheme: str, speeds: Mapping[tuple[str, str], Server | str]) -> str:
    """Return tokens per processor second with the median ratio to the full model in each round, and memory."""
    server, full = speeds[kind, scheme], speeds[kind, FULL]
    if isinstance(server, str):
        return "no"
    parts = []
    for own, beside in (
        (server.alone, [] if isinstance(full, str) else full.alone),
        (server.at_once, [] if isinstance(full, str) else full.at_once),
    ):
        ratios = [here / there for here, there in zip(own, beside, strict=False)]
        shown = f" ({statistics.median(ratios):.2f})" if ratios and scheme != FULL else ""
        parts.append(f"{statistics.median(own):.1f}{shown}")
    return f"{', '.join(parts)}; {server.name}"


if __name__ == "__main__":
    main()
