"""What a CUDA graph does, on the CPU: operations recorded once, and done again on the same memory."""

from collections.abc import Callable, Hashable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

HOST = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero")


class Recording(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Runs operations and remembers them. What looks at values, as a recording never may, raises."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func.overloadpacket.__name__ in HOST:
            raise RuntimeError(f"{func} waits for the device")
        found = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, found))
        return found

    def replay(self) -> None:
        for func, args, kwargs, first in self.calls:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(first), tree_leaves(again), strict=True):
                if isinstance(old, Tensor) and _memory(old) != _memory(new):
                    old.copy_(new)


class ReplayingGraphs:
    """`Graphs` whose steps are Python's only the first time; then nothing of ours is called."""

    def __init__(self) -> None:
        self.recordings: dict[Hashable, Recording] = {}
        self.replays = 0

    def run(self, key: Hashable, call: Callable[[], None]) -> None:
        if key in self.recordings:
            self.replays += 1
            self.recordings[key].replay()
            return
        with Recording() as recording:
            call()
        self.recordings[key] = recording


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
