"""Examples of every command, as `lorry COMMAND --help` shows them; tests parse each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from gateway.cli.help.training_examples import TRAINING_EXAMPLES

EXAMPLES: Final[Mapping[str, Sequence[tuple[str, str]]]] = {
    "": (
        ("Serve the bundled model on http://127.0.0.1:8080", "lorry up"),
        ("Train the adapter support, and watch", "lorry train sft --data chats.jsonl --name support --follow"),
        ("Give its second revision a rising share of the traffic", "lorry rollout start support@2 --steps 5,25,100"),
        ("See what runs, what moves and what needs you", "lorry status"),
    ),
    "up": (
        ("Serve the bundled model on http://127.0.0.1:8080", "lorry up"),
        ("Serve another model on another port", "lorry up --model ~/models/qwen3-4b --port 9000"),
        ("Serve with vLLM, to the whole network", "lorry up --engine vllm --host 0.0.0.0"),
        ("Deploy on a Ray cluster, and leave it there", "lorry up --ray-address 10.0.0.1:6379 --detach"),
    ),
    "trainer": (
        ("Work on jobs beside a cluster, on any machine that reaches its registry", "lorry trainer"),
        (
            "With a settings file and a folder of its own",
            "LORRY_CONFIG=lorry.toml LORRY_HOME=/srv/trainer lorry trainer",
        ),
    ),
    "down": (("Remove Lorry from a Ray cluster", "lorry down --ray-address 10.0.0.1:6379"),),
    "doctor": (
        ("What would serve the bundled model here", "lorry doctor"),
        ("The same for another model and longer texts", "lorry doctor --model ~/models/qwen3-4b --context 16384"),
    ),
    "envs": (("Which engines and tools are installed", "lorry envs list"),),
    "envs install": (
        ("Build the environment of vLLM for this machine", "lorry envs install vllm"),
        ("The same without a GPU", "lorry envs install vllm --variant cpu"),
        ("Build the environment in which checkpoints are quantized", "lorry envs install quantize"),
    ),
    "envs list": (("Which engines and tools are installed", "lorry envs list"),),
    "envs remove": (("Free the disk space of an environment", "lorry envs remove sglang"),),
    "batches": (
        ("Have the requests of a file answered, and watch", "lorry batches create requests.jsonl --follow"),
        ("Read the answers", "lorry batches download batch_1a2b > answers.jsonl"),
    ),
    "batches create": (
        ("Have the requests of a file answered, and watch", "lorry batches create requests.jsonl --follow"),
        ("Name the batch", "lorry batches create requests.jsonl --metadata night=monday"),
    ),
    "batches list": (("The newest batches", "lorry batches list"),),
    "batches show": (("How far a batch is", "lorry batches show batch_1a2b"),),
    "batches cancel": (("End a batch with what it has", "lorry batches cancel batch_1a2b"),),
    "batches download": (
        ("Read the answers", "lorry batches download batch_1a2b > answers.jsonl"),
        ("Read what failed, and why", "lorry batches download batch_1a2b --errors"),
    ),
    "rollout": (
        ("Start one, and watch it", "lorry rollout start support@2 --follow"),
        ("Take it back at once", "lorry rollback support"),
    ),
    "rollout start": (
        ("Judged: it goes on by evidence, and is taken back by evidence", "lorry rollout start support@2"),
        ("Without the judge", "lorry rollout start support@2 --steps 25,100 --no-judge"),
        ("Copies of requests first, which nobody sees", "lorry rollout start support@2 --steps shadow:10,25,100"),
        ("A stricter judge", "lorry rollout start support@2 --guardrail error_rate=0.01 --min-samples 500"),
    ),
    "rollout status": (
        ("Where it stands, and on what evidence", "lorry rollout status support"),
        ("Stay until it has ended; exit code 1 if it was aborted", "lorry rollout status support --watch"),
    ),
    "rollout history": (("All rollouts of an adapter", "lorry rollout history support"),),
    "rollout promote": (
        ("Go to the next step", "lorry rollout promote support"),
        ("Make the canary stable now", "lorry rollout promote support --full"),
    ),
    "rollout pause": (("Hold the present share", "lorry rollout pause support"),),
    "rollout resume": (("Let it go on", "lorry rollout resume support"),),
    "rollout abort": (("Give the stable revision all traffic", "lorry rollout abort support"),),
    "rollout force": (
        ("Try the canary yourself", "lorry rollout force support --key ann --side canary"),
        ("Remove the override", "lorry rollout force support --key ann --clear"),
        ("List the overrides", "lorry rollout force support --list"),
    ),
    "rollback": (
        ("Take the last change back", "lorry rollback support"),
        ("Go to one revision by number", "lorry rollback support --to 1"),
    ),
    "feedback": (("How each revision is rated", "lorry feedback list support"),),
    "feedback list": (("How each revision is rated", "lorry feedback list support"),),
    "feedback show": (("The ratings of a revision, with comments", "lorry feedback show support@2"),),
    "status": (
        ("One page", "lorry status"),
        ("Keep it on the screen", "lorry status --watch"),
        ("In a script: act only where a person is needed", "lorry status >/dev/null || lorry status --json"),
    ),
    "ps": (
        ("The inference servers", "lorry ps"),
        ("Ids of those that are not ready", "lorry ps --json | jq -r '.[] | select(.state!=\"ready\").id'"),
    ),
    "chat": (
        ("Chat with an adapter", "lorry chat support"),
        ("Compare two revisions side by side", "lorry chat support@1 support@2 --temperature 0"),
        ("Ask one question from a script", "echo 'Where is my teapot?' | lorry chat support"),
        ("With a system prompt", "lorry chat support --system 'Answer in one sentence.'"),
    ),
    "models": (
        ("Every name that a request may carry", "lorry models list"),
        ("Fetch a model from Hugging Face", "lorry models pull Qwen/Qwen2.5-0.5B-Instruct"),
    ),
    "models list": (
        ("Every name that a request may carry", "lorry models list"),
        ("The names alone", "lorry models list --json | jq -r '.[].id'"),
        ("Base models, with where they come from", "lorry models list --bases"),
        ("Base models of this machine, while Lorry does not run", "lorry models list --home"),
    ),
    "models show": (
        ("What a name stands for", "lorry models show support@2"),
        ("Where a base model comes from", "lorry models show smollm2-135m-instruct"),
    ),
    "models pull": (
        ("The newest commit of the default branch", "lorry models pull Qwen/Qwen2.5-0.5B-Instruct"),
        ("A tag, from ModelScope", "lorry models pull Qwen/Qwen2.5-0.5B-Instruct --revision v1.0 --hub modelscope"),
    ),
    "models try": (
        ("Start a checkpoint on the kinds of the pools, and compare answers", "lorry models try smollm2-w8a8-int8-1"),
        ("Another kind of engine", "lorry models try smollm2-w8a8-int8-1 --kind vllm"),
    ),
    "models verify": (("Hash all files again", "lorry models verify Qwen/Qwen2.5-0.5B-Instruct"),),
    "models remove": (
        ("A pulled model", "lorry models remove Qwen/Qwen2.5-0.5B-Instruct"),
        ("A checkpoint that a job made", "lorry models remove support-full-1"),
        ("While Lorry does not run", "lorry models remove Qwen/Qwen2.5-0.5B-Instruct --home"),
    ),
    "lineage": (
        ("Where a revision comes from", "lorry lineage support@2"),
        ("What was made of a base model", "lorry lineage smollm2-135m-instruct"),
        ("What was trained on a file", "lorry lineage file-9f2c"),
        ("SLSA provenance, to be signed", "lorry lineage support@2 --format in-toto > statement.json"),
    ),
    "adapters": (
        ("All adapters", "lorry adapters list"),
        ("One with its revisions", "lorry adapters show support"),
    ),
    "adapters list": (("All adapters", "lorry adapters list"),),
    "adapters show": (
        ("An adapter with its revisions", "lorry adapters show support"),
        ("A revision with what made it", "lorry adapters show support@2"),
    ),
    "adapters publish": (
        ("Publish a folder that PEFT wrote", "lorry adapters publish out/checkpoint-500 --name support"),
    ),
    "adapters retire": (("Serve a revision no longer", "lorry adapters retire support@1"),),
    "adapters owner": (
        ("Give an adapter to another tenant", "lorry adapters owner support --tenant shop"),
        ("Let every key use it", "lorry adapters owner support --shared"),
    ),
    "replicas": (("The inference servers", "lorry replicas"),),
    "replicas list": (("The inference servers", "lorry replicas list"),),
    "replicas add": (
        (
            "Add a vLLM that runs already",
            "lorry replicas add http://10.0.0.5:8000 --engine vllm --base qwen3-4b",
        ),
    ),
    "replicas remove": (("Remove one that was added by hand", "lorry replicas remove hand-vllm-1a2b3c"),),
    "keys": (("Create the first key, which has all scopes", "lorry keys create --name ann"),),
    "keys create": (
        ("Create the first key, which has all scopes", "lorry keys create --name ann"),
        (
            "A key for one application",
            "lorry keys create --name shop --scopes inference --models support --requests-per-minute 600",
        ),
        ("Keep the secret in a file", "lorry keys create --name shop > shop.key"),
    ),
    "keys list": (("Valid keys", "lorry keys list"), ("Revoked ones too", "lorry keys list --all")),
    "keys revoke": (("Revoke a key by its name", "lorry keys revoke shop"),),
    "audit": (("Who did what", "lorry audit --limit 20"),),
    "backup": (
        ("Copy the registry and its artifacts", "lorry backup /backup/lorry"),
        ("The registry of another home", "LORRY_HOME=/srv/lorry lorry backup /backup/lorry"),
    ),
    "restore": (
        ("Into a home of its own", "LORRY_HOME=/srv/lorry-2 lorry restore /backup/lorry"),
        ("Into PostgreSQL, which lorry.toml names", "LORRY_CONFIG=/etc/lorry.toml lorry restore /backup/lorry"),
    ),
    "completion": (
        ("bash", "lorry completion bash > ~/.local/share/bash-completion/completions/lorry"),
        ("zsh, with a folder that is in fpath", "lorry completion zsh > ~/.zfunc/_lorry"),
        ("fish", "lorry completion fish > ~/.config/fish/completions/lorry.fish"),
        ("For this bash only", "source <(lorry completion bash)"),
    ),
    **TRAINING_EXAMPLES,
}
"""Words of a command after `lorry` -> its examples: the effect of each, and how it is typed."""
