"""By what an adapter's drafts end: a table that was given, prices that are learned, or floors until then."""

from collections.abc import Callable

from retrieval_draft.adapters.settings import CostRule, Settings
from retrieval_draft.adapters.step_times import StepTimes
from retrieval_draft.drafting.names import DEFAULT_METHOD
from retrieval_draft.floor import NO_FLOOR, Floor
from retrieval_draft.step import TreeShape, VerifyCost


def cost_of(settings: Settings) -> VerifyCost | None:
    """The table that was given."""
    return settings.cost if isinstance(settings.cost, VerifyCost) else None


def step_times_of(
    settings: Settings, shape: TreeShape, clock: Callable[[], float]
) -> StepTimes | None:
    """Where steps are to be measured."""
    is_measured = settings.cost == CostRule.MEASURED and not settings.observe_only
    return StepTimes(clock) if is_measured and _is_calibrated(settings, shape) else None


def floor_of(settings: Settings, shape: TreeShape) -> Floor:
    """Of chains whose probabilities are calibrated, where no cost table was given."""
    if not _is_calibrated(settings, shape) or cost_of(settings) is not None:
        return NO_FLOOR
    return Floor(settings.probability_min, settings.first_probability_min)


def _is_calibrated(settings: Settings, shape: TreeShape) -> bool:
    """Whether what comes are chains whose probabilities say how often their tokens are kept.

    Stacks that verify trees fill them up to one size: there no node has a price.
    """
    return shape == TreeShape.CHAIN and settings.method in ("", DEFAULT_METHOD)
