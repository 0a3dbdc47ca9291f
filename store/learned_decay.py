"""Old statistics as a weak prior: a learned image whose counts and visits count less."""

import numpy as np

from retrieval_draft.errors import InvalidInput
from retrieval_draft.store.kernels import ngrams
from retrieval_draft.store.learned_image import LearnedImage, slots_of


def checked_decay(decay: float) -> float:
    """The factor as given; 0 stands for 1, as on the wire. InvalidInput outside 0 to 1."""
    if not 0 <= decay <= 1:  # also for NaN
        raise InvalidInput("decay", decay, "0 to 1", "old counts are multiplied with it")
    return decay or 1.0


def decayed(image: LearnedImage, decay: float) -> LearnedImage:
    """Counts of n-grams and STAND's visits times `decay`, rounded down; the rest as it was.

    Contexts that were seen too seldom for anything to remain are forgotten, except STAND's, whose visits
    stay at one: its table has no free slots within. Recycling, recent outputs and probabilities stay.
    """
    arrays = dict(image.arrays)
    counts = np.array(arrays["counts"], np.int32)
    for slots, followers in slots_of(counts):
        # Views of `counts`: it is changed in place.
        states, seen = slots[:, 1], slots[:, 2 + followers :]
        totals = (states & ngrams.TOTAL_MASK).astype(np.float64)
        fewer = (totals * decay).astype(np.int32)
        states[:] = (states & ~ngrams.TOTAL_MASK) | fewer
        seen[:] = (seen * decay).astype(np.int32)
        slots[fewer < ngrams.SIGHTING] = 0
    visits = np.array(arrays["stand_visits"], np.uint8)
    fewer_visits = np.maximum((visits * decay).astype(np.uint8), np.minimum(visits, 1))
    arrays |= {"counts": counts, "stand_visits": fewer_visits}
    return LearnedImage(image.scalars, arrays)
