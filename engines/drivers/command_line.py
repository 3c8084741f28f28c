"""Settings to the command line of a server: what the drivers share."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from engines.base_task import BaseTask, task_of
from engines.catalog import ENGINES, kind_of
from engines.errors import EnvironmentMissing, SettingRefused
from engines.kinds import Hardware, Vendor
from engines.quantization import Quantization, quantization_in
from engines.quantized_support import PRECISION_OF, Silicon, why_not_served, why_without_adapters
from engines.settings import EngineSettings


def server_variables(settings: EngineSettings) -> dict[str, str]:
    """Return the environment variables that every server in an environment of its own gets.

    The empty PYTHONDONTWRITEBYTECODE undoes ours: the server compiles what it imports once, not at every start.
    """
    environment = kind_of(settings.kind).environment
    on_cpu = environment.cpu_variables if environment and settings.hardware is Hardware.CPU else {}
    return {
        "PYTHONDONTWRITEBYTECODE": "",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": str(settings.threads),
        **on_cpu,
    }


def refuse_unhonoured(settings: EngineSettings) -> None:
    """Raise `SettingRefused` for the settings that the row of the kind does not list as possible."""
    row, task = kind_of(settings.kind), task_of(settings.base_path)
    if settings.max_adapters and task is not BaseTask.GENERATE:
        raise SettingRefused(
            f"the {settings.kind} engine cannot have max_adapters = {settings.max_adapters}, only 0: "
            f"{settings.base_name} is a model to {task} texts, which has no adapters"
        )
    found = quantization_in(settings.base_path)
    vendor = None if settings.hardware is Hardware.CPU else Vendor(settings.hardware)
    if found is not None:
        _refuse_quantized(settings, found, vendor)
    defaults = {field: EngineSettings.model_fields[field].default for field in row.unhonoured}
    precisions = row.hardware.cpu_precisions if vendor is None else row.hardware.device_precisions
    if found is not None:
        precisions = (*precisions, *filter(None, [PRECISION_OF.get(found.scheme)]))
    refuse_others(
        settings,
        {
            **{field: (default,) for field, default in defaults.items()},
            "hardware": (Hardware.CPU, *row.hardware.vendors),
            "precision": (None, *precisions),
        },
    )


def _refuse_quantized(settings: EngineSettings, found: Quantization, vendor: Vendor | None) -> None:
    """Raise `SettingRefused`, with the kinds that would serve it, for a checkpoint that the kind does not serve there.

    A mode for 4-bit weights that `extra_args` choose is left to the server.
    """
    row = kind_of(settings.kind)
    mode = row.hardware.four_bit
    if mode is not None and vendor in mode.vendors and mode.arguments[-1] in settings.extra_args:
        return
    silicon = Silicon(vendor=vendor)
    why = why_not_served(settings.kind, row.quantized, found, silicon)
    if why is None and vendor is None and task_of(settings.base_path) is not BaseTask.GENERATE:
        why = f"{settings.kind} on a CPU serves no quantized models that generate nothing"
    reason = why_without_adapters(row.quantized, found, vendor)
    if why is None and reason and settings.max_adapters:
        raise SettingRefused(
            f"the {settings.kind} engine cannot have max_adapters = {settings.max_adapters} with {found.label}, "
            f"only 0: {reason}"
        )
    if why is not None:
        others = [
            kind for kind, each in ENGINES.items() if why_not_served(kind, each.quantized, found, silicon) is None
        ]
        others = [kind for kind in others if kind != settings.kind]
        served_by = f"; {' or '.join(others)} would serve it there" if others else "; no kind of engine serves it there"
        raise SettingRefused(f"{settings.base_name}: {why}{served_by}")


def refuse_others(settings: EngineSettings, allowed: Mapping[str, Collection[object]]) -> None:
    """Raise `SettingRefused` unless each field of *allowed* has one of its values, which the message lists."""
    values = dict(settings)
    for field, known in allowed.items():
        if values[field] not in known:
            choice = " or ".join(str(value) for value in known)
            raise SettingRefused(f"the {settings.kind} engine cannot have {field} = {values[field]}, only {choice}")


def interpreter_of(settings: EngineSettings) -> str:
    """Return the Python of the engine's environment; `EnvironmentMissing` when there is none."""
    install = f"`lorry envs install {settings.kind}` makes one"
    if settings.interpreter is None:
        raise EnvironmentMissing(f"the {settings.kind} engine runs in an environment of its own; {install}")
    if not settings.interpreter.is_file():
        raise EnvironmentMissing(f"{settings.interpreter} is not there; {install}")
    return str(settings.interpreter)


KEY_FLAGS: Final = frozenset({"--api-key", "--api-keys"})


def command_line(program: Sequence[str], options: Mapping[str, object], extra_args: Sequence[str]) -> list[str]:
    """Return *program* with its options and the extra arguments; `SettingRefused` for an extra one that is set already.

    An option whose value is None is left out, True is a flag alone, and a list is several values.
    """
    command = list(program)
    for flag, value in options.items():
        if value is None:
            continue
        command.append(flag)
        if value is not True:
            command.extend(str(one) for one in (value if isinstance(value, list) else [value]))
    for argument in extra_args:
        flag = argument.partition("=")[0].replace("_", "-")
        if flag in KEY_FLAGS:
            raise SettingRefused(f"extra_args cannot have {flag}: Lorry makes the server's key at every start")
        if options.get(flag) is not None:
            raise SettingRefused(f"extra_args cannot repeat {flag}, which Lorry sets; another setting decides it")
    return [*command, *extra_args]
