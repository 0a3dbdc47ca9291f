"""vLLM from 0.22 on: drafts as chains, for its V1 model runner.

    speculative_config={"method": "custom_class", "model": "retrieval_draft.adapters.vllm.Proposer",
                        "num_speculative_tokens": 8}

`register` is our entry point in vLLM's group of plugins, which it loads by itself.
"""

from retrieval_draft.adapters.vllm.plugin import register
from retrieval_draft.adapters.vllm.proposer import Proposer

__all__ = ["Proposer", "register"]
