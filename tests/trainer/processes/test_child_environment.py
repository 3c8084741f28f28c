"""A training child gets no secret of the worker that starts it."""

from __future__ import annotations

from trainer.processes.child_environment import child_environment

OF_BUCKETS = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_PROFILE"),
    *("GOOGLE_SERVICE_ACCOUNT", "GOOGLE_APPLICATION_CREDENTIALS", "AZURE_STORAGE_ACCOUNT_NAME"),
    *("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE"),
)
OF_OTHERS = ("PGPASSWORD", "DATABASE_URL", "RAY_AUTH_TOKEN", "LORRY_WEBHOOK_SECRET", "HF_TOKEN", "WANDB_API_KEY")


def test_a_child_gets_no_credentials_of_a_bucket_and_no_other_secret() -> None:
    passed_on = child_environment(dict.fromkeys((*OF_BUCKETS, *OF_OTHERS, "PATH", "HOME"), "x"), 1)
    assert passed_on.keys().isdisjoint({*OF_BUCKETS, *OF_OTHERS})
    assert passed_on.keys() >= {"PATH", "HOME"}
