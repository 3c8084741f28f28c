"""Examples of the commands that make models: data, jobs, their costs, scores, and what is made of their results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

TRAINING_EXAMPLES: Final[Mapping[str, Sequence[tuple[str, str]]]] = {
    "eval": (
        ("Score a revision by a suite that ships with Lorry", "lorry eval support@2 --suite builtin:core"),
        ("The same by a file of yours, with a page", "lorry eval support@2 --suite support.jsonl --html report.html"),
        (
            "Is it better than the one before, row by row",
            "lorry eval compare support@2 support@1 --suite support.jsonl",
        ),
    ),
    "eval run": (
        ("Score a revision by a suite that ships with Lorry", "lorry eval support@2 --suite builtin:core"),
        ("Ten rows of it, as JSON", "lorry eval support --suite builtin:facts --limit 10 --json"),
    ),
    "eval list": (("All evaluations of an adapter", "lorry eval list --adapter support"),),
    "eval show": (("One evaluation, with the answers that did not pass", "lorry eval show 3f9a --answers"),),
    "eval compare": (
        (
            "Two revisions by their latest evaluations of a suite",
            "lorry eval compare support@2 support@1 --suite builtin:core",
        ),
    ),
    "eval suites": (("The suites that ship with Lorry", "lorry eval suites"),),
    "eval resume": (("Go on where it failed", "lorry eval resume 3f9a"),),
    "eval cancel": (("End one", "lorry eval cancel 3f9a"),),
    "eval delete": (("Remove one with its answers", "lorry eval delete 3f9a"),),
    "estimate": (
        (
            "Would full training of this model fit here",
            "lorry estimate train --model ~/models/qwen3-4b --set weights=full",
        ),
    ),
    "estimate train": (
        (
            "What a job on this file would take here",
            "lorry estimate train --model ~/models/qwen3-4b --data chats.jsonl",
        ),
        (
            "QLoRA on rows of 4,096 tokens, on another machine's GPU",
            "lorry estimate train --model config.json --length 4096 --set weights=qlora --device rtx4090",
        ),
        (
            "Four GPUs that share the weights",
            "lorry estimate train --model config.json --set processes=4 --set parallelism=fsdp2 --device 4xh100",
        ),
        ("A base model of Lorry's, and an uploaded file", "lorry estimate train --model smollm2 --file file-3f9a"),
    ),
    "estimate serve": (
        ("What serving would take on a GPU", "lorry estimate serve --model ~/models/qwen3-4b --device l4"),
        ("Long contexts on two", "lorry estimate serve --model config.json --context 131072 --device 2xa100-80"),
    ),
    "train": (("Fine-tune on chats", "lorry train sft --data chats.jsonl --name support --follow"),),
    "train sft": (
        ("Train the adapter support, and watch", "lorry train sft --data chats.jsonl --name support --follow"),
        (
            "Two passes over the data with a smaller adapter",
            "lorry train sft --data chats.jsonl --name support --set n_epochs=2 --set lora_rank=8",
        ),
        (
            "Keep the best step by a validation file",
            "lorry train sft --data chats.jsonl --name support --validation held_out.jsonl --set keep=best",
        ),
        (
            "Roll the result out as soon as it is published",
            "lorry train sft --data chats.jsonl --name support --rollout 5,25,100",
        ),
    ),
    "train dpo": (
        ("Learn from pairs of answers", "lorry train dpo --data pairs.jsonl --name support --set beta=0.1 --follow"),
    ),
    "train kto": (
        ("Learn from rated answers", "lorry train kto --data ratings.jsonl --name support --follow"),
        ("Learn from a file that is there already", "lorry train kto --file file-3f9a --name support"),
    ),
    "train orpo": (("Learn from pairs of answers", "lorry train orpo --data pairs.jsonl --name support --follow"),),
    "train simpo": (("Learn from pairs of answers", "lorry train simpo --data pairs.jsonl --name support --follow"),),
    "train reinforcement": (
        (
            "Learn what a grader rewards",
            "lorry train reinforcement --data prompts.jsonl --grader grader.json --name support --follow",
        ),
    ),
    "train ppo": (
        (
            "Learn what a reward model prefers",
            "lorry train ppo --data prompts.jsonl --grader grader.json --name support --set group_size=2",
        ),
    ),
    "train reward": (("Train a reward model", "lorry train reward --data pairs.jsonl --name taste --follow"),),
    "jobs": (
        ("The newest jobs", "lorry jobs list"),
        ("Follow one until it has ended", "lorry jobs logs ftjob-1a2b --follow"),
    ),
    "jobs list": (
        ("The newest jobs", "lorry jobs list"),
        ("The ids of those that failed", "lorry jobs list --json | jq -r '.[] | select(.status==\"failed\").id'"),
    ),
    "jobs show": (("What a job was asked to do, and where it is", "lorry jobs show ftjob-1a2b"),),
    "jobs logs": (("Follow a job until it has ended", "lorry jobs logs ftjob-1a2b --follow"),),
    "jobs cancel": (("End a job without a result", "lorry jobs cancel ftjob-1a2b"),),
    "jobs pause": (("Give the trainer to another job", "lorry jobs pause ftjob-1a2b"),),
    "jobs resume": (("Go on from the last checkpoint", "lorry jobs resume ftjob-1a2b"),),
    "data": (
        ("Make training lines of other data", "lorry data convert alpaca.json --out chats.jsonl"),
        ("Look at a file before training on it", "lorry data check chats.jsonl --html report.html"),
    ),
    "data convert": (
        ("Rows of ShareGPT, Alpaca or query and response", "lorry data convert alpaca.json --out chats.jsonl"),
        (
            "A data set of Hugging Face at one commit",
            "lorry data convert hf://datasets/owner/name@1a2b3c4/data/train-*.parquet --out chats.jsonl",
        ),
    ),
    "data check": (
        ("Look at a file before training on it", "lorry data check chats.jsonl --html report.html"),
        (
            "Count tokens as a base model does, and look for rows of the validation file",
            "lorry data check chats.jsonl --model smollm2-135m-instruct --validation held_out.jsonl",
        ),
    ),
    "data review": (
        ("Write a sheet of drawn rows", "lorry data review chats.jsonl"),
        ("Sign the filled sheet", "lorry data review chats.jsonl --sign"),
    ),
    "data from-feedback": (("Make a training file of rated answers", "lorry data from-feedback support"),),
    "graders": (("Check a grader", "lorry graders validate grader.json"),),
    "graders validate": (("Check a grader as a job would", "lorry graders validate grader.json"),),
    "graders run": (("Grade one answer", "lorry graders run grader.json --sample 'Paris' --item row.json"),),
    "quantize": (
        (
            "Choose the scheme for this machine, and watch",
            "lorry quantize support@2 --calibration support.jsonl --follow",
        ),
        (
            "4-bit weights for batch work, with a looser gate",
            "lorry quantize support@2 --calibration support.jsonl --scheme w4a16-gptq --max-rise 0.1",
        ),
    ),
    "merge": (
        ("Make a whole model of a revision, and watch", "lorry merge support@2 --follow"),
        ("The same under another name", "lorry merge support@2 --name support-merged"),
    ),
    "export": (
        ("Write an adapter as a folder that PEFT loads", "lorry export support@2 --to ./support"),
        ("Upload a merged model to a private repository", "lorry export support-1 --to hf:acme/support"),
        ("Write one file for llama.cpp", "lorry export support-1 --to gguf --type q8_0"),
        ("Write what Ollama needs, merged first", "lorry export support@2 --merged --to ollama"),
    ),
    "reproduce": (
        ("Make a revision again and compare", "lorry reproduce support@2"),
        ("Read the report of an earlier comparison", "lorry reproduce repjob-1a2b"),
    ),
}
"""Words of a command after `lorry` -> its examples: the effect of each, and how it is typed."""
