"""A draft model by name: a folder or hub id, the demo's sibling, or the target's own first layers."""

from pathlib import Path

from tokenizers import Tokenizer

from retrieval_draft.errors import DraftError, InvalidInput
from retrieval_draft.gpu.draft_models.causal import (
    CHILDREN_DEFAULT,
    DEPTH_DEFAULT,
    CausalDrafts,
)
from retrieval_draft.gpu.draft_models.first_layers import first_layers
from retrieval_draft.gpu.model import load_model
from retrieval_draft.gpu.target import TargetModel
from retrieval_draft.gpu.tokenizer import load_tokenizer
from retrieval_draft.tokenizer import DEMO, demo_folder, fingerprint

SELF = "self:"
DEPTH_MAX, CHILDREN_MAX = 32, 32


def sibling_folder() -> Path:
    """The bundled draft model of the demo model: four times smaller, of the same tokenizer."""
    return demo_folder().with_name("sibling")


def open_draft_model(
    name: str,
    target: TargetModel,
    *,
    slots: int,
    length_max: int,
    tokenizer: Tokenizer | None = None,
    depth_max: int = DEPTH_DEFAULT,
    children_max: int = CHILDREN_DEFAULT,
) -> CausalDrafts:
    """`self:N`, `demo`, a folder or a hub id; loaded with the target's dtype and device.

    Raises InvalidInput for a model of another vocabulary, and as `load_model`.
    """
    for field, value, most in (
        ("draft_depth_max", depth_max, DEPTH_MAX),
        ("draft_children_max", children_max, CHILDREN_MAX),
    ):
        if not 1 <= value <= most:
            raise InvalidInput(field, value, f"1 to {most}")
    if name.startswith(SELF):
        layers = name.removeprefix(SELF)
        if not layers.isdecimal():
            raise InvalidInput("draft_model", name, f"{SELF}N, N layers of the target")
        model = first_layers(target, int(layers))
    else:
        source = str(sibling_folder()) if name == DEMO else name
        dtype = str(target.dtype).removeprefix("torch.")
        model = load_model(source, dtype=dtype, device=str(target.device))
        check_vocabulary(model, target, tokenizer)
    return CausalDrafts(
        model, slots=slots, length_max=length_max, depth_max=depth_max, children_max=children_max
    )


def check_vocabulary(
    model: TargetModel, target: TargetModel, tokenizer: Tokenizer | None = None
) -> None:
    """Raises InvalidInput if the draft model's tokens are not the target's.

    Another number of tokens is one sign, another tokenizer beside the model the other; a model without
    a tokenizer of its own is taken to have the target's.
    """
    limit = f"a model of the target's {target.vocab_size} tokens"
    if model.vocab_size != target.vocab_size:
        raise InvalidInput("draft_model", model.name, limit, f"it has {model.vocab_size}")
    try:
        own = load_tokenizer(model.name)
    except DraftError:
        return
    if tokenizer is not None and fingerprint(own) != fingerprint(tokenizer):
        raise InvalidInput("draft_model", model.name, limit, "its tokenizer is another one")
