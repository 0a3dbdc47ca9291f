"""Stand-ins for compiled packages that a stack imports and no test calls."""

import sys
from collections.abc import Iterable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

SGLANG = (
    *("IPython", "aiohttp", "deep_gemm", "einops", "fastapi", "flashinfer", "gguf", "loguru"),
    *("sentencepiece", "sgl_kernel", "torchvision", "tvm_ffi"),
)
"""What SGLang imports and these tests do without."""


class Anything:
    """Takes any call, any attribute, any index; as a decorator it gives back what it decorates."""

    def __init__(self, *arguments: object, **more: object) -> None: ...

    def __call__(self, *arguments: Any, **more: object) -> Any:
        is_decorating = len(arguments) == 1 and callable(arguments[0]) and not more
        return arguments[0] if is_decorating else self

    def __getattr__(self, name: str) -> "Anything":
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything()

    def __getitem__(self, index: object) -> "Anything":
        return self

    def __mro_entries__(self, bases: object) -> tuple[type, ...]:
        return (object,)

    def __or__(self, other: object) -> "Anything":
        return self

    __ror__ = __or__


class _Stub(ModuleType):
    __version__ = "3.0.0"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything()


class _Finder(MetaPathFinder, Loader):
    def __init__(self, roots: Iterable[str]) -> None:
        self._roots = set(roots)

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] not in self._roots:
            return None
        return ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Stub(spec.name)

    def exec_module(self, module: ModuleType) -> None: ...


def stand_in(*roots: str) -> None:
    """From here on these packages, where they are missing, can be imported."""
    sys.meta_path.append(_Finder(roots))
