"""How an adapter is told what to do: variables of the environment, or a mapping of the stack's own.

`step_ms_max` in a mapping is `RETRIEVAL_DRAFT_STEP_MS_MAX` in the environment; the mapping wins.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from retrieval_draft.config import STEP_MS_MAX
from retrieval_draft.errors import InvalidInput
from retrieval_draft.step import Learning, VerifyCost
from retrieval_draft.tree import int32s

PREFIX = "RETRIEVAL_DRAFT_"
SIDECAR, IN_PROCESS = "sidecar", "in-process"
TRANSPORTS = (SIDECAR, IN_PROCESS)
NODES_MAX = 1024
BATCH_MAX = 64
PROBABILITY_MIN = 0.01
FIRST_PROBABILITY_MIN = 0.2
"""Chosen by replaying recorded outputs: 60 % fewer tokens to verify for 7 % fewer gained per step."""
IDLE_SECONDS_MAX = 600.0
NAMESPACES_MAX = 32
_LEARNING = {
    "": Learning.UNSPECIFIED,
    "output": Learning.OUTPUT,
    "all": Learning.PROMPT_AND_OUTPUT,
    "none": Learning.NONE,
}
_TRUTHS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": False}


class CostRule(StrEnum):
    """Where what a step costs is not given as a table."""

    MEASURED = "measured"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Settings:
    """Every field is a setting; what is left out stays as here."""

    transport: str = SIDECAR
    """`sidecar`: over gRPC; `in-process`: the same engine and journal within the serving process."""
    sidecar: str = ""
    """`unix:PATH` or `HOST:PORT`; empty: the socket of the data folder. Only for `sidecar`."""
    data: Path | None = None
    """The sidecar's data folder, where its socket is; None: the default one."""
    redis: str = "none"
    """Where the journal is, as `serve --redis`; `none`: in memory. Only for `in-process`."""
    namespace: str = ""
    """Empty: the model's name."""
    tokenizer: str = ""
    """A tokenizer.json or a model's folder: models of one tokenizer may then share a namespace."""
    method: str = ""
    nodes_max: int = 0
    """Per sequence and step; 0: what the stack asks for."""
    batch_max: int = BATCH_MAX
    """More sequences than this in a step: no drafts, learning goes on. 0: always draft."""
    batch_nodes_max: int = 0
    """Over all sequences of a step; 0: no bound."""
    cost: VerifyCost | CostRule = CostRule.MEASURED
    """What a step costs by its drafted nodes, `0:12.1,8:13.0,...` in ms: then drafting must pay.
    `measured`: learned from the steps themselves, of chains by `mix`; `none`: nothing has a price."""
    probability_min: float = PROBABILITY_MIN
    """A chain ends before the first token whose path is less likely to be kept; 0: no bound."""
    first_probability_min: float = FIRST_PROBABILITY_MIN
    """No chain whose first token is less likely to be kept. Both bounds are for `mix`, as long as no
    price is known."""
    step_ms_max: float = STEP_MS_MAX
    idle_seconds_max: float = IDLE_SECONDS_MAX
    """A sequence not in a batch for so long is closed; it is opened anew if it comes back."""
    namespaces_max: int = NAMESPACES_MAX
    """Of LoRA adapters and cache salts, one each; sequences of any more get no drafts."""
    learn: Learning = Learning.UNSPECIFIED
    """`output`, `all` (prompts too) or `none`; empty: the namespace's rule."""
    observe_only: bool = False
    """Draft and count, but give the stack nothing to verify."""
    hybrid: bool = False
    """Draft for models with recurrent layers too."""
    off: bool = False
    """Do nothing at all."""


def read_settings(mapping: Mapping[str, object] | None, environment: Mapping[str, str]) -> Settings:
    """Settings of both, or InvalidInput that names the variable or key, its value and the limit."""
    settings = Settings()
    for field in fields(Settings):
        variable = PREFIX + field.name.upper()
        if variable in environment:
            settings = _with(settings, field.name, variable, environment[variable])
    for key, value in (mapping or {}).items():
        if key not in _READERS:
            raise InvalidInput("setting", key, f"one of {', '.join(sorted(_READERS))}")
        settings = _with(settings, key, key, value)
    if settings.transport == IN_PROCESS and settings.sidecar:
        raise InvalidInput("sidecar", settings.sidecar, f"empty where transport is {IN_PROCESS}")
    if settings.transport == SIDECAR and settings.redis != "none":
        raise InvalidInput("redis", settings.redis, f"`none` where transport is {SIDECAR}")
    return settings


def read_cost(name: str, value: object) -> VerifyCost | CostRule:
    """`NODES:MS,NODES:MS,...` with nodes ascending from 0, or a rule; "" is the default's.

    Raises InvalidInput.
    """
    limit = "measured, none, or NODES:MS,... with nodes ascending from 0 and milliseconds above 0"
    text = str(value).strip() or CostRule.MEASURED
    if text in list(CostRule):
        return CostRule(text)
    try:
        pairs = [(int(n), float(ms)) for n, ms in (part.split(":") for part in text.split(","))]
    except ValueError:
        raise InvalidInput(name, text, limit) from None
    nodes, costs = [n for n, _ in pairs], [ms for _, ms in pairs]
    ascending = all(a < b for a, b in pairwise(nodes))
    if nodes[0] != 0 or not ascending or not all(0 < ms < 1e6 for ms in costs):
        raise InvalidInput(name, text, limit)
    return VerifyCost(int32s(nodes), np.asarray(costs, np.float32))


def _with(settings: Settings, field: str, name: str, value: object) -> Settings:
    return replace(settings, **{field: _READERS[field](name, value)})


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidInput(name, value, "a text")
    return value.strip()


def _one_of(names: tuple[str, ...]) -> Callable[[str, object], str]:
    def read(name: str, value: object) -> str:
        if value not in names:
            raise InvalidInput(name, value, f"one of {', '.join(names)}")
        return str(value)

    return read


def _count(least: int, most: int) -> Callable[[str, object], int]:
    def read(name: str, value: object) -> int:
        limit = f"a whole number from {least} to {most}"
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise InvalidInput(name, value, limit)
        try:
            number = int(value)
        except ValueError:
            raise InvalidInput(name, value, limit) from None
        if not least <= number <= most:
            raise InvalidInput(name, value, limit)
        return number

    return read


def _amount(most: float) -> Callable[[str, object], float]:
    def read(name: str, value: object) -> float:
        limit = f"a number above 0 and up to {most:g}"
        number = _number(name, value, limit)
        if not 0 < number <= most:
            raise InvalidInput(name, value, limit)
        return number

    return read


def _share(name: str, value: object) -> float:
    limit = "a number from 0 to 1"
    number = _number(name, value, limit)
    if not 0 <= number <= 1:
        raise InvalidInput(name, value, limit)
    return number


def _number(name: str, value: object, limit: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InvalidInput(name, value, limit)
    try:
        return float(value)
    except ValueError:
        raise InvalidInput(name, value, limit) from None


def _truth(name: str, value: object) -> bool:
    found = _TRUTHS.get(str(value).strip().lower())
    if found is None:
        raise InvalidInput(name, value, "true or false")
    return found


def _learning(name: str, value: object) -> Learning:
    found = _LEARNING.get(value) if isinstance(value, str) else None
    if found is None:
        raise InvalidInput(name, value, "output, all, none or empty")
    return found


def _folder(name: str, value: object) -> Path | None:
    text = _text(name, value)
    return Path(text) if text else None


_READERS: dict[str, Callable[[str, object], Any]] = {
    "transport": _one_of(TRANSPORTS),
    "sidecar": _text,
    "data": _folder,
    "redis": _text,
    "namespace": _text,
    "tokenizer": _text,
    "method": _text,
    "nodes_max": _count(0, NODES_MAX),
    "batch_max": _count(0, 1 << 20),
    "batch_nodes_max": _count(0, 1 << 20),
    "cost": read_cost,
    "probability_min": _share,
    "first_probability_min": _share,
    "step_ms_max": _amount(10_000),
    "idle_seconds_max": _amount(1e6),
    "namespaces_max": _count(0, 1024),
    "learn": _learning,
    "observe_only": _truth,
    "hybrid": _truth,
    "off": _truth,
}
