"""`trtllm-serve` with drafts: `python -m retrieval_draft.adapters.tensorrt_llm_serve serve MODEL ...`.

Takes the options of trtllm-serve. Its YAML can name no object, so the drafter is given to the server
when it starts. Untested on hardware.
"""

from importlib import import_module
from typing import Any

from retrieval_draft.adapters.tensorrt_llm import decoding_config


class DraftingLauncher:
    """Starts the server as `launch` does, with a model that drafts."""

    def __init__(self, launch: Any) -> None:
        self._launch = launch

    def __call__(
        self, host: str, port: int, llm_args: dict[str, Any], *more: Any, **named: Any
    ) -> Any:
        config = decoding_config(str(llm_args["model"]))
        return self._launch(host, port, {**llm_args, "speculative_config": config}, *more, **named)


def main() -> None:
    """Serve until interrupted, as trtllm-serve does."""
    commands: Any = import_module("tensorrt_llm.commands.serve")
    commands.launch_server = DraftingLauncher(commands.launch_server)
    commands.main()


if __name__ == "__main__":
    main()
