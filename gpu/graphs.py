"""A step recorded once and replayed: what launches cost on a GPU is then paid once a shape.

A step reads and writes fixed memory only; which it is may not change from one replay to the next.
"""

from collections.abc import Callable, Hashable
from typing import Protocol

import torch

GRAPHS_MAX = 128
WARM_UPS = 2
"""Before a recording: libraries choose their kernels, and take their memory, in the first calls."""


new_stream: Callable[[torch.device], torch.cuda.Stream] = torch.cuda.Stream


class Graphs(Protocol):
    """Something that runs `call`, or does again what it did when it was called with this key first."""

    def run(self, key: Hashable, call: Callable[[], None]) -> None: ...


class EagerGraphs:
    """Records nothing: the same steps where there is nothing to record with."""

    def run(self, key: Hashable, call: Callable[[], None]) -> None:
        call()


class CudaGraphs:
    """CUDA graphs by key, recorded when first asked for, in one pool of memory.

    A recording takes a few calls' time. Beyond `graphs_max` keys calls are made as they are. What a
    recording raises comes through, and nothing is kept of it.
    """

    def __init__(self, device: torch.device, graphs_max: int = GRAPHS_MAX) -> None:
        self._device, self._graphs_max = device, graphs_max
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}
        self._pool = torch.cuda.graph_pool_handle()
        # One for all: matrix products keep a workspace of tens of MiB for every stream they have seen.
        self._side: torch.cuda.Stream | None = None

    def __len__(self) -> int:
        return len(self._graphs)

    def run(self, key: Hashable, call: Callable[[], None]) -> None:
        graph = self._graphs.get(key)
        if graph is None:
            if len(self._graphs) >= self._graphs_max:
                call()
                return
            graph = self._graphs[key] = self._recorded(call)
        graph.replay()

    def _recorded(self, call: Callable[[], None]) -> torch.cuda.CUDAGraph:
        with torch.cuda.device(self._device):
            usual = torch.cuda.current_stream(self._device)
            side = self._side = self._side or new_stream(self._device)
            side.wait_stream(usual)
            with torch.cuda.stream(side):
                for _ in range(WARM_UPS):
                    call()
            usual.wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            try:
                # Other threads may use the device meanwhile: their calls are no business of this recording.
                with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                    call()
            except BaseException:
                # torch leaves the stream of a recording that failed in use, and its pool in the recording.
                torch.cuda.set_stream(usual)
                self._pool = torch.cuda.graph_pool_handle()
                raise
        return graph
