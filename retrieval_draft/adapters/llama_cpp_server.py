"""llama-cpp-python's OpenAI server with drafts: `python -m retrieval_draft.adapters.llama_cpp_server`.

Takes that server's own options (`--model FILE`, `--port N`, ...). It can load its own prompt lookup and
no other drafter, so here the function that loads its models gives them one.
"""

import atexit
from importlib import import_module
from typing import Any

from retrieval_draft.adapters.llama_cpp import LlamaDrafter


class DraftingLoader:
    """Loads models as `load` does, each with a drafter of its own; the one before lets go of its."""

    def __init__(self, load: Any) -> None:
        self._load = load
        self._drafter: LlamaDrafter | None = None
        atexit.register(self.close)

    def __call__(self, settings: Any) -> Any:
        self.close()
        # Verifying takes the scores of every drafted token; `draft_model` would say so to the loader.
        model = self._load(settings.model_copy(update={"draft_model": None, "logits_all": True}))
        self._drafter = model.draft_model = LlamaDrafter()
        self._drafter.bind(model)
        return model

    def close(self) -> None:
        if self._drafter is not None:
            self._drafter.close()
            self._drafter = None


def main() -> None:
    """Serve until interrupted, as `python -m llama_cpp.server` does."""
    proxy = import_module("llama_cpp.server.model").LlamaProxy
    load = DraftingLoader(proxy.load_llama_from_model_settings)
    proxy.load_llama_from_model_settings = staticmethod(load)
    import_module("llama_cpp.server.__main__").main()


if __name__ == "__main__":
    main()
