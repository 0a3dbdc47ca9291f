"""Ways to a drafter that fail on command, around one that works; and a clock that a test moves."""

from collections.abc import Callable
from dataclasses import dataclass, field

from retrieval_draft.client import Client
from retrieval_draft.conversation import Conversation
from retrieval_draft.errors import Unreachable
from retrieval_draft.step import DraftOptions, StepRequest, StepResponse
from retrieval_draft.tree import DraftTree, int32s
from retrieval_draft.v1 import store_pb2
from tests.engine.driving import NAMESPACE, VOCAB

GONE = Unreachable("gone")
TEXT = [token for line in range(8) for token in (1, 2, 3, 4, 5, 6, 7, 8 + line // 2)]
"""Lines that can be drafted, and that differ: what only repeats itself is not learned."""
PROMPT = 8


@dataclass
class Clock:
    """Seconds that pass only when a test says so."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Faulty:
    """A client whose answers can be late, lost, changed, or errors instead."""

    client: Client
    failure: Exception | None = None
    late: bool = False
    change: Callable[[StepResponse], StepResponse] = lambda answer: answer
    calls: int = 0
    requests: list[StepRequest] = field(default_factory=list[StepRequest])
    greetings: int = 0

    def send(self, request: StepRequest) -> None:
        self._touch()
        self.requests.append(request)
        self.client.send(request)

    def receive(self, step_id: int, seconds_max: float) -> StepResponse | None:
        self._touch()
        if self.late:
            return None
        answer = self.client.receive(step_id, seconds_max)
        return None if answer is None else self.change(answer)

    def observation_width(self, seconds_max: float) -> int:
        self._touch()
        self.greetings += 1
        return self.client.observation_width(seconds_max)

    def hidden_width(self, seconds_max: float) -> int:
        self._touch()
        return self.client.hidden_width(seconds_max)

    def create_namespace(
        self, request: store_pb2.CreateNamespaceRequest, seconds_max: float = 1.0
    ) -> store_pb2.Namespace:
        self._touch()
        return self.client.create_namespace(request)

    def get_namespace(self, namespace: str, seconds_max: float = 1.0) -> store_pb2.Namespace:
        self._touch()
        return self.client.get_namespace(namespace)

    def stats(self, namespace: str = "") -> store_pb2.Stats:
        return self.client.stats(namespace)

    def close(self) -> None:
        self.client.close()

    def _touch(self) -> None:
        self.calls += 1
        if self.failure is not None:
            raise self.failure


@dataclass
class Decoder:
    """A target that continues a text it has in mind, with whatever drafts the conversation gets."""

    conversation: Conversation
    text: list[int]
    name: str = "s"
    stop: int = 0
    accepted: int = 0
    drafted: int = 0

    def open(self, prompt: int) -> "Decoder":
        self.conversation.open(self.name, int32s(self.text[:prompt]))
        self.stop = prompt
        return self

    def step(self, nodes_max: int = 8) -> DraftTree | None:
        """Draft, verify and commit once: at least one token."""
        tree = self.conversation.draft({self.name: nodes_max}).get(self.name)
        self.verify(tree)
        return tree

    def verify(self, tree: DraftTree | None) -> None:
        """Commit what the text has of this draft, and a token more."""
        kept = 0
        if tree is not None:
            kept = min(len(tree.follow(self.text[self.stop :])), len(self.text) - self.stop - 1)
            self.drafted += 1
        new = self.text[self.stop : self.stop + kept + 1]
        self.accepted += kept
        self.stop += len(new)
        self.conversation.commit(self.name, int32s(new), kept if tree is not None else -1)

    def run(self) -> "Decoder":
        while self.stop < len(self.text):
            self.step()
        return self


def conversation(
    client: Client, options: DraftOptions | None = None, clock: Clock | None = None
) -> Conversation:
    """With a deadline that a busy machine keeps."""
    asked = options or DraftOptions(method="lookup")
    if clock is None:
        return Conversation(client, NAMESPACE, VOCAB, asked, step_ms_max=10_000)
    return Conversation(client, NAMESPACE, VOCAB, asked, step_ms_max=10_000, clock=clock)


def tree(token: list[int], parent: list[int]) -> DraftTree:
    return DraftTree(int32s(token), int32s(parent))
