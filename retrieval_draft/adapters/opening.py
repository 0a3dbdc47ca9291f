"""How an adapter comes by its drafter, whatever its settings say and whether anything is there to ask."""

import logging
from collections.abc import Mapping

from retrieval_draft.adapters.background import BackgroundClient
from retrieval_draft.adapters.serving import ServedModel, ServingDrafter
from retrieval_draft.adapters.settings import read_settings
from retrieval_draft.adapters.transport import connector
from retrieval_draft.errors import DraftError
from retrieval_draft.step import TreeShape

log = logging.getLogger(__name__)


def serving_drafter(
    model: ServedModel,
    mapping: Mapping[str, object] | None,
    environment: Mapping[str, str],
    shape: TreeShape = TreeShape.CHAIN,
) -> ServingDrafter | None:
    """The drafter of these settings (`read_settings`); None if they are wrong or say `off`. Never raises.

    Returns at once: what it drafts from is connected to in the background.
    """
    try:
        settings = read_settings(mapping, environment)
        if settings.off:
            return None
        if model.has_state and not settings.hybrid:
            log.error(
                "no drafts: %s has recurrent layers, and stacks are known to corrupt its outputs when "
                "drafts are rejected; RETRIEVAL_DRAFT_HYBRID=1 drafts all the same",
                model.name,
            )
            return None
        return ServingDrafter(BackgroundClient(connector(settings)), model, settings, shape)
    except DraftError as error:
        log.error("no drafts, the settings are wrong: %s", error)
    except Exception:
        log.exception("no drafts, drafting failed to start")
    return None
