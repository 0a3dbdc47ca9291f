"""A draft tree, drawn for people: token texts, probabilities, sources, and what was accepted."""

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from retrieval_draft.tree import SOURCES, TIERS, DraftTree

if TYPE_CHECKING:
    from rich.tree import Tree

_ORDERS = [bit for name, bit in SOURCES.items() if name.startswith("order")]
_ORDERS.sort(key=lambda bit: bit != SOURCES["order0"])
_NAMES = {bit: name for name, bit in {**TIERS, **SOURCES}.items()}


def source_names(mask: int) -> str:
    """The tiers and sources of a node, of the orders the highest: `context,learned match,order4`."""
    bits = [bit for bit in _NAMES if mask >> bit & 1]
    orders = [bit for bit in _ORDERS if bit in bits]
    bits = [bit for bit in bits if bit not in orders[:-1]]
    tiers = ",".join(_NAMES[bit] for bit in bits if bit in TIERS.values())
    kinds = ",".join(_NAMES[bit] for bit in bits if bit in SOURCES.values())
    return f"{tiers} {kinds}".strip()


def drawn(
    tree: DraftTree,
    context: str,
    text_of: Callable[[int], str],
    accepted: Collection[int] = (),
) -> "Tree":
    """The tree under the end of its context; accepted nodes are green and carry a check mark."""
    from rich.markup import escape
    from rich.tree import Tree

    root = Tree(f"[dim]…{escape(visible(context))}[/]", guide_style="dim")
    branches: dict[int, Tree] = {-1: root}
    for i, parent in enumerate(tree.parent.tolist()):
        text = escape(visible(text_of(int(tree.token[i]))))
        kept = i in accepted
        label = f"[{'bold green' if kept else 'default'}]{text}[/]"
        note = f"{float(tree.probability[i]):.2f}  {source_names(int(tree.source[i]))}"
        mark = "[bold green] ✓[/]" if kept else ""
        branches[i] = branches[parent].add(f"{label}{mark}  [dim]{note}[/]")
    return root


def visible(text: str) -> str:
    """Blanks and line ends that one can see."""
    return text.replace("\n", "⏎").replace("\t", "⇥").replace(" ", "·")
