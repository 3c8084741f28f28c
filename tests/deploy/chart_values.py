"""Sets of values that the chart is rendered with, and such that its schema has to refuse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

DIGEST: Final = f"sha256:{'5' * 64}"
CHAT: Final[Mapping[str, Any]] = {
    "name": "chat",
    "kind": "vllm",
    "image": {"repository": "registry.example/lorry-engine-vllm", "digest": DIGEST},
    "base": "/models/qwen2.5-7b-instruct",
    "gpus": 1,
    "engine": {"hardware": "nvidia", "max_batch": 64},
}
SMALL: Final[Mapping[str, Any]] = {
    "images": {
        "gateway": {"repository": "registry.example/lorry-gateway", "digest": DIGEST},
        "trainer": {"repository": "registry.example/lorry-trainer", "digest": DIGEST},
    },
    "registry": {"secretName": "lorry-registry"},
    "artifacts": {"url": "s3://artifacts/lorry"},
    "clusterSecret": {"secretName": "lorry-cluster"},
    "pools": [{"name": "small", "kind": "transformers"}],
}
_TAINT: Final = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}

VALUE_SETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "the least": {},
    "one pool on GPUs": {"pools": [CHAT], "models": {"claimName": "models"}},
    "a pool that grows": {"pools": [{**CHAT, "minReplicas": 1, "maxReplicas": 6, "targetRequests": 4.5}]},
    "a pool that sleeps": {"pools": [{**CHAT, "minReplicas": 0, "sleepAfterS": 900}]},
    "pools of every kind": {
        "pools": [
            *({**CHAT, "name": f"on-{kind}", "kind": kind} for kind in ("vllm", "sglang", "lmdeploy")),
            {"name": "encoder", "kind": "transformers", "base": "all-minilm-l6-v2"},
        ]
    },
    "a model over four devices": {"pools": [{**CHAT, "gpus": 4, "engine": {"tensor_parallel": 4}}]},
    "a model over two pods": {
        "pools": [
            {
                **CHAT,
                "nodes": 2,
                "gpus": 4,
                "maxReplicas": 3,
                "engine": {"tensor_parallel": 4, "pipeline_parallel": 2},
            }
        ]
    },
    "devices of AMD, with room on a node": {
        "pools": [{**CHAT, "gpuResource": "amd.com/gpu", "nodeSelector": {"pool": "mi300"}, "homeSize": "200Gi"}],
        "trainer": {"gpus": 1, "gpuResource": "amd.com/gpu", "tolerations": [_TAINT]},
    },
    "no trainer": {"trainer": {"replicas": 0}},
    "trainers with devices and a claim": {
        "trainer": {"replicas": 2, "gpus": 2, "homeClaimName": "jobs", "tolerations": [_TAINT]},
        "models": {"claimName": "models"},
    },
    "credentials by Secrets": {
        "artifacts": {"url": "gs://artifacts/lorry", "credentialsSecretName": "bucket"},
        "environmentSecrets": ["webhooks", "hubs"],
        "images": {**SMALL["images"], "pullSecrets": ["registry"]},
        "registry": {"secretName": "postgres", "secretKey": "uri"},
    },
    "a service account, a token of one's own, a head that survives": {
        "serviceAccountName": "lorry",
        "artifacts": {"url": "az://artifacts/lorry"},
        "ray": {
            "tokenSecretName": "ray",
            "upgrade": "None",
            "gcsFaultTolerance": {"backend": "rocksdb", "storage": {"size": "1Gi"}},
        },
    },
    "monitored": {
        "monitoring": {
            "serviceMonitor": {"enabled": True, "keySecretName": "metrics", "labels": {"release": "prometheus"}},
            "rules": {"enabled": True, "labels": {"release": "prometheus"}},
        }
    },
    "a load balancer, and few who reach it": {
        "gateway": {"pods": 6, "processesPerPod": 4, "service": {"type": "LoadBalancer", "port": 443}},
        "networkPolicy": {"gatewayFrom": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},
        "disruption": {"maxUnavailable": "25%"},
    },
    "no policies, long drains, images by tag": {
        "networkPolicy": {"enabled": False},
        "settings": {"gateway": {"drain_timeout_s": 120, "late_factor": 2.5}, "trainer": {"stop_timeout_s": 60}},
        "images": {
            "gateway": {"repository": "registry.example/lorry-gateway", "tag": "0.2.0"},
            "trainer": {"repository": "registry.example/lorry-trainer", "tag": "0.2.0"},
        },
    },
}

WRONG: Final[Mapping[str, tuple[Mapping[str, Any], str]]] = {
    "a misspelt value": ({"gateway": {"replica": 3}}, "at '/gateway': additional properties 'replica' not allowed"),
    "no pool": ({"pools": []}, "at '/pools': minItems: got 0, want 1"),
    "no Secret of the registry": ({"registry": {"secretName": ""}}, "at '/registry/secretName'"),
    "a folder for artifacts": ({"artifacts": {"url": "/srv/artifacts"}}, "at '/artifacts/url'"),
    "an engine that there is not": ({"pools": [{**CHAT, "kind": "tgi"}]}, "at '/pools/0/kind': value must be one of"),
    "an engine without its image": (
        {"pools": [{"name": "chat", "kind": "vllm"}]},
        "at '/pools/0': missing property 'image'",
    ),
    "half a digest": (
        {"pools": [{**CHAT, "image": {"repository": "r.example/e", "digest": "sha256:5"}}]},
        "at '/pools/0/image/digest'",
    ),
    "an image without digest and tag": (
        {"images": {**SMALL["images"], "gateway": {"repository": "r.example/g", "digest": "", "tag": ""}}},
        "at '/images/gateway/tag'",
    ),
    "half a GPU": ({"pools": [{**CHAT, "gpus": 0.5}]}, "at '/pools/0/gpus': got number, want integer"),
    "no node": ({"pools": [{**CHAT, "nodes": 0}]}, "at '/pools/0/nodes': minimum: got 0, want 1"),
    "fewer replicas than none": (
        {"pools": [{**CHAT, "minReplicas": -1}]},
        "at '/pools/0/minReplicas': minimum: got -1",
    ),
    "a port that the chart knows": ({"settings": {"gateway": {"port": 9000}}}, "at '/settings/gateway/port'"),
    "a table that there is not": ({"settings": {"gatway": {}}}, "at '/settings': additional properties 'gatway'"),
    "an upgrade in place": ({"ray": {"upgrade": "Rolling"}}, "at '/ray/upgrade': value must be one of"),
    "memory in words": ({"trainer": {"resources": {"limits": {"memory": "much"}}}}, "at '/trainer/resources/limits"),
}
