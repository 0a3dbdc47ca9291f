"""What a serving stack's drafter did, in numbers and in a line for people."""

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from retrieval_draft.asking import Figures


@dataclass(slots=True)
class Served:
    """What drafting brought, by vLLM's words: mean accepted length is 1 + accepted / drafts."""

    steps: int = 0
    throttled: int = 0
    """Steps without drafts because the batch was too large."""
    varied: int = 0
    """Steps without drafts because steps have been too much alike to tell what they cost."""
    drafts: int = 0
    draft_tokens: int = 0
    accepted_tokens: int = 0
    errors: int = 0
    """Faults of ours that ended here."""
    refused: int = 0
    """Requests without drafts: ids outside the vocabulary, or one namespace too many."""
    step_us: deque[int] = field(default_factory=lambda: deque[int](maxlen=4096))
    """How long `step` took, the last 4096."""

    def summary(self, figures: Figures) -> str:
        """With those of the conversation."""
        mean = 1 + self.accepted_tokens / max(1, self.drafts)
        times = np.percentile(list(self.step_us) or [0], (50, 99))
        return (
            f"{self.drafts} drafts, mean accepted length {mean:.2f}, "
            f"{self.accepted_tokens} of {self.draft_tokens} tokens accepted, "
            f"added per step p50 {times[0]:.0f} us p99 {times[1]:.0f} us; "
            f"steps late {figures.late} failed {figures.failed} skipped {figures.skipped} "
            f"paced {figures.paced} throttled {self.throttled}, errors {self.errors}"
        )
