"""An inference server gets what steers its libraries, and no secret of ours or of the user."""

from __future__ import annotations

from engines.server_environment import server_base_environment

NEEDED = (
    *("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "NCCL_SOCKET_IFNAME"),
    *("OMP_NUM_THREADS", "HF_HOME", "VLLM_LOGGING_LEVEL", "SGLANG_USE_CPU_ENGINE", "HIP_VISIBLE_DEVICES"),
    *("ASCEND_RT_VISIBLE_DEVICES", "XDG_CACHE_HOME", "TMPDIR", "TORCHINDUCTOR_CACHE_DIR"),
)
SECRETS = (
    *("LORRY_WEBHOOK_SECRET", "LORRY_TRACES_HEADERS", "LORRY_API_KEY", "PGPASSWORD", "DATABASE_URL", "RAY_AUTH_TOKEN"),
    *(
        "HF_TOKEN",
        "OPENAI_API_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AZURE_STORAGE_ACCOUNT_KEY",
        "MY_HOOK",
    ),
    *("GOOGLE_APPLICATION_CREDENTIALS", "VLLM_API_KEY", "OTEL_EXPORTER_OTLP_HEADERS"),
    *("HTTPS_PROXY", "SSH_AUTH_SOCK", "LORRY_CONFIG", "REDIS_URL"),
)


def test_a_server_gets_what_it_needs_and_no_secret() -> None:
    passed_on = server_base_environment(dict.fromkeys((*NEEDED, *SECRETS), "x"))
    assert sorted(passed_on) == sorted(NEEDED)
