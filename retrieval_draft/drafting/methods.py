"""The methods by name, and what a namespace keeps for those that learn."""

from typing import Protocol

from retrieval_draft.drafting.aded import Aded
from retrieval_draft.drafting.hierarchy import Hierarchy
from retrieval_draft.drafting.lookup import Lookup
from retrieval_draft.drafting.mix import Mix
from retrieval_draft.drafting.phrases import Phrases
from retrieval_draft.drafting.rasd import Rasd
from retrieval_draft.drafting.recycling import RecyclingMethod
from retrieval_draft.drafting.rest import Rest
from retrieval_draft.drafting.sight import Draft, Limits, Sight, Verified
from retrieval_draft.drafting.stand import StandMethod
from retrieval_draft.drafting.suffix import Suffix
from retrieval_draft.drafting.templates import Template
from retrieval_draft.tree import EMPTY


class Method(Protocol):
    """One way to draft."""

    @property
    def name(self) -> str: ...

    def draft(self, sight: Sight, limits: Limits) -> Draft:
        """A tree within `limits`: topological, siblings distinct, children no more probable than parents."""
        ...


class Methods:
    """One namespace's methods; `mix` carries what it has learned about its sources."""

    def __init__(self, stand_tree: Template | None = None, *, is_dense: bool = False) -> None:
        self.mix = Mix(is_dense=is_dense)
        self._phrases = Phrases()
        drafters: tuple[Method, ...] = (
            Lookup(),
            Suffix(),
            RecyclingMethod(),
            StandMethod(stand_tree),
            Hierarchy(),
            Rest(),
            Rasd(),
            Aded(),
            self._phrases,
            self.mix,
        )
        self._by_name: dict[str, Method] = {method.name: method for method in drafters}

    def __getitem__(self, name: str) -> Method:
        return self._by_name[name]

    def draft(self, name: str, sight: Sight, limits: Limits) -> Draft:
        """What the method of this name drafts; `mix` grows a shadow even where nothing may be drafted."""
        if limits.nodes_max <= 0 and name != self.mix.name:
            return Draft(EMPTY)
        return self._by_name[name].draft(sight, limits)

    def use(self, method: Method) -> None:
        """Draft with `method` where its name is asked for: replay looks into one, or tries another."""
        self._by_name[method.name] = method

    def learns(self, name: str) -> bool:
        """Whether the method of this name keeps what verification reveals of its drafts."""
        return name == self._phrases.name

    def learn(self, verified: Verified) -> None:
        """Let the one that does keep it."""
        self._phrases.learn(verified)
