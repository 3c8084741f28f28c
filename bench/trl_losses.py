"""Record what TRL computes for some logprobs, against which the losses of preferences are tested.

    PYTHONPATH=FOLDER python bench/trl_losses.py > tests/trainer/training/trl_losses.json

FOLDER has TRL and what it imports: `pip install --target FOLDER --no-deps trl==1.16.0 datasets pyarrow dill
multiprocess xxhash pandas pytz python-dateutil`. TRL's own loss functions run, with a scripted model that returns the
logprobs.
"""

from __future__ import annotations

import json
import os
import sys
from collections import defaultdict
from types import SimpleNamespace
from typing import Any, Final

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch
from torch import Tensor
from trl import DPOTrainer, KTOTrainer, RewardTrainer
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer

LENGTHS: Final = ((3, 5), (4, 2), (2, 2))
"""Tokens of both answers of each pair."""
BETA: Final = 0.3
GAMMA: Final = 0.6


class Scripted(torch.nn.Module):
    """A model whose logprobs of each token are given, one tensor for each pass."""

    is_gradient_checkpointing = False

    def __init__(self, *logprobs: Tensor) -> None:
        super().__init__()
        self._left = list(logprobs)

    def forward(self, **_: Any) -> Any:
        found = self._left.pop(0)
        zeros = torch.zeros_like(found)
        return SimpleNamespace(log_probs=found, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool())


class Accelerator:
    """An accelerator of one process."""

    device = torch.device("cpu")

    def gather(self, tensor: Tensor) -> Tensor:
        return tensor

    gather_for_metrics = gather


def trainer(kind: type, **fields: Any) -> Any:
    """Return a trainer of TRL without its set-up, with the fields that its loss reads."""
    made: Any = object.__new__(kind)
    made.accelerator = Accelerator()
    made._metrics = {"train": defaultdict(list)}
    made._total_train_tokens, made._tp_size, made.aux_loss_enabled = 0, 1, False
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def token_logprobs(seed: int, lengths: list[int]) -> Tensor:
    """Return logprobs of the tokens of answers, [answers, longest], 0 after the end of each."""
    generator = torch.Generator().manual_seed(seed)
    drawn = -3 * torch.rand(len(lengths), max(lengths), generator=generator, dtype=torch.float64)
    return drawn * mask_of(lengths)


def mask_of(lengths: list[int]) -> Tensor:
    return (torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]).double()


def batch_of(lengths: list[int]) -> dict[str, Tensor]:
    # A token before the answer, as the first one of a sequence has no logprob.
    mask = torch.cat([torch.zeros(len(lengths), 1), mask_of(lengths)], dim=1).long()
    return {"input_ids": mask, "attention_mask": torch.ones_like(mask), "completion_mask": mask}


def record(loss: Tensor, by: dict[str, Tensor]) -> dict[str, Any]:
    grads = torch.autograd.grad(loss, list(by.values()))
    # The gradient by every token of an answer is the gradient by the answer's sum.
    return {"loss": loss.item(), **{f"d_{name}": grad[:, 0].tolist() for name, grad in zip(by, grads, strict=True)}}


def dpo(loss_type: str) -> dict[str, Any]:
    lengths = [pair[0] for pair in LENGTHS] + [pair[1] for pair in LENGTHS]
    policy, reference = token_logprobs(1, lengths).requires_grad_(), token_logprobs(2, lengths)
    fields: dict[str, Any] = {
        "ld_alpha": None,
        "precompute_ref_logps": False,
        "f_divergence_type": "reverse_kl",
        "beta": BETA,
    }
    fields |= {"loss_types": [loss_type], "loss_weights": [1.0], "use_weighting": False, "label_smoothing": 0.0}
    args = SimpleNamespace(gradient_checkpointing_kwargs=None)
    model = Scripted(policy)
    made = trainer(DPOTrainer, model=model, ref_model=Scripted(reference), args=args, **fields)
    loss = made._compute_loss(model, batch_of(lengths), return_outputs=False)
    sums = {"policy": policy.sum(1).tolist(), "reference": reference.sum(1).tolist(), "lengths": lengths}
    return {**sums, "beta": BETA, **record(loss, {"policy": policy})}


def kto() -> dict[str, Any]:
    lengths, labels = [3, 5, 4, 2], [True, False, True, False]
    policy, reference = token_logprobs(3, lengths).requires_grad_(), token_logprobs(4, lengths)
    other, other_reference = token_logprobs(5, lengths), token_logprobs(6, lengths)
    fields = {"calculate_KL": True, "precompute_ref_logps": False, "loss_type": "kto", "beta": BETA}
    weights = {"desirable_weight": 1.0, "undesirable_weight": 1.5}
    # The order of TRL's passes: mismatched, matched.
    model = Scripted(other, policy)
    ref_model = Scripted(other_reference, reference)
    args = SimpleNamespace(gradient_checkpointing_kwargs=None)
    made = trainer(KTOTrainer, model=model, ref_model=ref_model, args=args, **fields, **weights)
    own = batch_of(lengths)
    loss = made._compute_loss(
        model, own | {f"KL_{name}": value for name, value in own.items()} | {"label": torch.tensor(labels)}, False
    )
    sums = {"policy": policy.sum(1).tolist(), "reference": reference.sum(1).tolist(), "labels": labels}
    mismatched = (other.sum(1) - other_reference.sum(1)).tolist()
    return {**sums, "mismatched": mismatched, "beta": BETA, **weights, **record(loss, {"policy": policy})}


def reference_free(kind: str) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(7)
    good, bad = (-3 * torch.rand(3, 1, generator=generator, dtype=torch.float64) for _ in range(2))
    good.requires_grad_()
    bad.requires_grad_()
    if kind == "orpo":
        ratio = trainer(ORPOTrainer, beta=BETA).odds_ratio_loss(good[:, 0], bad[:, 0])[0]
        loss = -ratio.mean() - good.mean()  # TRL takes the cross-entropy over prompts too; the paper over answers
    elif kind == "simpo":
        fields = {"alpha": 0.0, "loss_type": "simpo", "simpo_gamma": GAMMA, "label_smoothing": 0.0, "beta": BETA}
        loss = trainer(CPOTrainer, **fields).cpo_loss(good[:, 0], bad[:, 0])[0].mean()
    else:
        args = SimpleNamespace(center_rewards_coefficient=None)
        model = lambda **_: SimpleNamespace(logits=torch.cat([good, bad]))  # noqa: E731
        model_like = SimpleNamespace(training=True)
        made = trainer(RewardTrainer, model=model_like, args=args)
        loss = made.compute_loss(model, {"attention_mask": torch.ones(6, 1)})
    logprobs = {"preferred": good[:, 0].tolist(), "rejected": bad[:, 0].tolist()}
    return {**logprobs, "beta": BETA, "gamma": GAMMA, **record(loss, {"preferred": good, "rejected": bad})}


def main() -> None:
    """Write all cases as JSON."""
    cases: dict[str, Any] = {"dpo": dpo("sigmoid"), "ipo": dpo("ipo"), "kto": kto()}
    cases |= {kind: reference_free(kind) for kind in ("orpo", "simpo", "reward")}
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(case)}" for name, case in cases.items())
    sys.stdout.write(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()
