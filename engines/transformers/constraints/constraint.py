"""An answer under its rule: which tokens may come next, as the tokens that came decide."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import numpy as np
import torch
from llguidance import LLMatcher
from torch import Tensor

from engines.transformers.errors import ApiError

_BITS: Final = 32


class RuleTooComplex(ApiError):
    """An answer needs more work by its rule than the engine allows; the answer ends here."""

    status = 400
    kind = "invalid_request_error"
    default_code = "output_rule_too_complex"


class Constraint:
    """The state of one answer's rule. A mask is computed in another thread, while the model runs."""

    def __init__(self, matcher: LLMatcher, vocabulary: int, param: str) -> None:
        self._matcher = matcher
        self._param = param
        self.vocabulary = vocabulary
        self._bits = np.zeros((vocabulary + _BITS - 1) // _BITS, dtype=np.int32)
        self._filling: Future[None] | None = None

    @property
    def error(self) -> ApiError | None:
        """Why the answer cannot go on, None while it can."""
        if not self._matcher.is_error():
            return None
        return RuleTooComplex(f"{self._param}: {self._matcher.get_error().splitlines()[0]}", param=self._param)

    @property
    def is_complete(self) -> bool:
        """Whether nothing more may follow what came."""
        return self._matcher.is_stopped()

    def begin_mask(self, threads: ThreadPoolExecutor) -> None:
        """Have the mask of the next token computed; nothing else may be called until `narrow` has returned."""
        if self._filling is None:
            self._filling = threads.submit(self._fill)

    def narrow(self, logits: Tensor) -> None:
        """Give every token that may not come next the logit -inf, in place; *logits*, [vocabulary]."""
        if self._filling is None:
            self._fill()
        else:
            self._filling.result()
            self._filling = None
        if self._matcher.is_error():
            return  # the caller looks at `error`
        excluded = np.unpackbits(np.invert(self._bits).view(np.uint8), bitorder="little").view(np.bool_)
        logits.masked_fill_(torch.from_numpy(excluded[: self.vocabulary]), float("-inf"))

    def advance(self, token: int) -> None:
        """Note the next token of the answer."""
        self._matcher.consume_token(token)

    def _fill(self) -> None:
        self._matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
