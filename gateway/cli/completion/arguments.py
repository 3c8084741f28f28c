"""Arguments that many commands have: each with the placeholder on its help page, and its completion."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.completion import names

AdapterName = Annotated[
    str, typer.Argument(metavar="ADAPTER", help="Name of an adapter.", autocompletion=names.adapters)
]
RevisionName = Annotated[
    str,
    typer.Argument(metavar="ADAPTER@N", help="A revision, for example support@2.", autocompletion=names.revisions),
]
ModelName = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="Adapter, revision or base model.", autocompletion=names.models),
]
BaseName = Annotated[str, typer.Argument(metavar="BASE", help="Name of a base model.", autocompletion=names.bases)]
JobId = Annotated[
    str, typer.Argument(metavar="JOB", help="Id of a job, ftjob-... or pubjob-...", autocompletion=names.jobs)
]
BatchId = Annotated[str, typer.Argument(metavar="BATCH", help="Id of a batch, batch_...", autocompletion=names.batches)]
ReplicaId = Annotated[
    str, typer.Argument(metavar="REPLICA", help="Id of an inference server.", autocompletion=names.replicas)
]
KeyName = Annotated[str, typer.Argument(metavar="KEY", help="Id or name of the key.", autocompletion=names.keys)]
PublishedName = Annotated[
    str,
    typer.Option(
        "--name",
        metavar="ADAPTER",
        help="Adapter name; the result becomes its next revision.",
        autocompletion=names.adapters,
    ),
]
BaseFlag = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="BASE",
        help="Base model; needed only where there are several.",
        autocompletion=names.bases,
    ),
]
