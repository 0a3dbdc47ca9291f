"""Self-speculation: the target's own first layers, its last norm and its head draft for the whole of it.

No weight is copied (Zhang et al., Draft & Verify, ACL 2024, arXiv 2309.08168, skip layers of their own
choice; LayerSkip, arXiv 2404.16710, trains the exits). A model that was not trained to leave early drafts
worse than a small model of its own size does: measure it.
"""

from copy import copy

from torch import nn
from transformers import PreTrainedModel

from retrieval_draft.errors import InvalidInput
from retrieval_draft.gpu.model import adopt_model
from retrieval_draft.gpu.target import TargetModel

LAYERS_NAMES = ("layers", "h")


def first_layers(target: TargetModel, count: int) -> TargetModel:
    """The target cut behind layer `count`; it shares every weight and keeps keys and values of its own.

    Raises InvalidInput for a count that leaves no layer or all of them, or an unknown layout.
    """
    whole = target.module
    body = getattr(whole, whole.base_model_prefix, whole)
    name = next((n for n in LAYERS_NAMES if isinstance(getattr(body, n, None), nn.ModuleList)), "")
    if not name or body is whole:
        reason = f"{type(whole).__name__} keeps its layers in an unknown place"
        raise InvalidInput("draft_model", f"self:{count}", "a model with a list of layers", reason)
    layers: nn.ModuleList = getattr(body, name)
    if not 1 <= count < len(layers):
        raise InvalidInput("draft_model", f"self:{count}", f"self:1 to self:{len(layers) - 1}")
    short = _sharing(body)
    setattr(short, name, layers[:count])
    cut: PreTrainedModel = _sharing(whole)
    setattr(cut, whole.base_model_prefix, short)
    return adopt_model(cut, name=f"{target.name}, {count} of {len(layers)} layers")


def _sharing(module: PreTrainedModel) -> PreTrainedModel:
    """Another module of the same parts: parts exchanged in it stay as they are in the first."""
    twin = copy(module)
    twin.__dict__["_modules"] = dict(module._modules)
    # A cut model runs fewer layers than its configuration says, which some read.
    twin.config = copy(module.config)
    return twin
