"""A serving stack in small: requests that decode a known text, with whatever drafts they are given."""

from dataclasses import dataclass, field

import numpy as np

from retrieval_draft.adapters.serving import Row, ServedModel, ServingDrafter
from retrieval_draft.adapters.settings import Settings
from retrieval_draft.client import Client
from retrieval_draft.tree import DraftTree, Int32Array, int32s
from tests.client.scripted import PROMPT, Clock
from tests.client.scripted import TEXT as TEXT
from tests.engine.driving import NAMESPACE, VOCAB

MODEL = ServedModel("models/tiny", VOCAB, (0,))
SETTINGS = Settings(namespace=NAMESPACE, method="lookup", step_ms_max=10_000)
NODES = 6


def drafter(
    client: Client, settings: Settings = SETTINGS, clock: Clock | None = None
) -> ServingDrafter:
    return ServingDrafter(client, MODEL, settings, clock=clock or Clock())


@dataclass
class Request:
    """One request and what its decoding came to; every step's draft is verified against `text`."""

    name: str = "r"
    text: list[int] = field(default_factory=lambda: list(TEXT))
    length: int = PROMPT
    fresh: int = 0
    accepted: int = 0
    salt: str = ""
    adapter: str = ""

    def __post_init__(self) -> None:
        self.history: Int32Array = int32s(self.text)
        self.commit(0)  # what prefilling yields

    def commit(self, kept: int) -> None:
        self.fresh = min(kept + 1, len(self.text) - self.length)
        self.length += self.fresh
        self.accepted += kept

    def row(self, nodes_max: int = NODES) -> Row:
        return Row(
            self.name,
            self.history[: self.length],
            self.fresh,
            nodes_max,
            length_max=len(self.text),
            salt=self.salt,
            adapter=self.adapter,
        )

    @property
    def is_over(self) -> bool:
        return self.length == len(self.text)

    def verify(self, tree: DraftTree) -> None:
        self.commit(min(len(tree.follow(self.text[self.length :])), len(self.text) - 1))


def run(drafter: ServingDrafter, *requests: Request, nodes_max: int = NODES) -> None:
    """Decode them in one batch to their ends; the last step's tokens are shown too."""
    while going := [request for request in requests if not request.is_over]:
        trees = drafter.step([request.row(nodes_max) for request in going])
        for request, tree in zip(going, trees, strict=True):
            assert len(tree) <= nodes_max
            request.verify(tree)
    drafter.step([request.row(0) for request in requests])
    drafter.finish([request.name for request in requests])


def random_text(seed: int, length: int = 64) -> list[int]:
    found: list[int] = np.random.default_rng(seed).integers(1, VOCAB, length).tolist()
    return found
