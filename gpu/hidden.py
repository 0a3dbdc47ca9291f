"""The target's last hidden states: what its output layer was given in a forward.

Watched only from when somebody wants them; until then the model is as it was.
"""

from collections.abc import Callable

from torch import Tensor, nn

from retrieval_draft.gpu.target import TargetModel


class HiddenStates:
    """Those of the newest forward, from `watch` to `close`."""

    def __init__(self, model: TargetModel) -> None:
        self._model = model
        self._newest: Tensor | None = None
        self._unwatch: Callable[[], None] | None = None

    def watch(self) -> bool:
        """Whether the states of the next forwards are kept: not of a model that names no output layer."""
        if self._unwatch is None:
            layer = self._model.module.get_output_embeddings()  # type: ignore[no-untyped-call]
            if not isinstance(layer, nn.Module):
                return False
            self._unwatch = layer.register_forward_pre_hook(self._keep).remove
        return True

    def take(self) -> Tensor | None:
        """[B, n, width] of the forward since the last call; None if the layer was not called."""
        newest, self._newest = self._newest, None
        return newest

    def close(self) -> None:
        if self._unwatch is not None:
            self._unwatch()
        self._unwatch = self._newest = None

    def _keep(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._newest = inputs[0]
