"""The trainer and its jobs."""

from __future__ import annotations

from typing import Final

from deploy.monitoring.panels import Board, Panel, Query, Row

JOBS: Final = Board(
    uid="lorry-jobs",
    title="Lorry: trainer and jobs",
    about="The queue, what runs, what failed, and the room that the trainer's workers have.",
    rows=(
        Row(
            title="Queue",
            panels=(
                Panel(
                    title="Jobs by state",
                    about="Jobs ever created, by their state now; those that ended well only grow.",
                    queries=(Query('max by (state) (gateway_jobs{state=~"queued|running|paused"})', "{{state}}"),),
                ),
                Panel(
                    title="Longest wait",
                    about="How long that job has waited which waits longest for nothing but a worker.",
                    queries=(
                        Query("(time() - min(gateway_job_waiting_since_timestamp_seconds)) or vector(0)", "wait"),
                    ),
                    unit="s",
                ),
                Panel(
                    title="Ended jobs, 24 h",
                    about="Jobs that succeeded, failed or were cancelled within a day.",
                    queries=(
                        Query(
                            'max by (state) (delta(gateway_jobs{state=~"succeeded|failed|cancelled"}[24h]))',
                            "{{state}}",
                        ),
                    ),
                ),
                Panel(
                    title="Failures by code",
                    about="All failed jobs ever, by the code of their error.",
                    queries=(Query("max by (code) (gateway_job_failures_total)", "{{code}}"),),
                ),
            ),
        ),
        Row(
            title="Work",
            panels=(
                Panel(
                    title="Tokens a second of running jobs",
                    about="Speed of training; 0 while a job loads, waits for an engine to be idle, or hands over.",
                    queries=(
                        Query(
                            "max by (job, method) (deriv(gateway_running_job_trained_tokens[2m]))",
                            "{{job}} {{method}}",
                        ),
                    ),
                ),
                Panel(
                    title="Time to the end of running jobs",
                    about="By the speed of their steps so far.",
                    queries=(
                        Query(
                            "max by (job) (gateway_running_job_finish_timestamp_seconds) - time()",
                            "{{job}}",
                        ),
                    ),
                    unit="s",
                ),
                Panel(
                    title="Memory of the workers",
                    about="Memory of each worker's device for jobs, and what is left beside the jobs that it holds.",
                    queries=(
                        Query("max by (worker) (gateway_worker_memory_bytes)", "{{worker}}"),
                        Query("min by (worker) (gateway_worker_free_bytes)", "{{worker}} free"),
                    ),
                    unit="bytes",
                ),
                Panel(
                    title="Free disk",
                    about="A full disk fails jobs with storage_full.",
                    queries=(Query("min by (folder) (gateway_disk_free_bytes)", "{{folder}}"),),
                    unit="bytes",
                ),
            ),
        ),
    ),
)
