"""Which namespace a sequence drafts from: the model's, or one of its LoRA adapter and cache salt.

Nothing is shared across them: an adapter's outputs are another model's, and a salt says who may share.
"""

import re
from hashlib import blake2b

from retrieval_draft.store.keys import NAMESPACE_CHARACTERS_MAX

PART_CHARACTERS_MAX = 40
DIGEST_BYTES = 12
_BANNED = re.compile(r"[^A-Za-z0-9._-]")


def model_namespace(model: str) -> str:
    """The last component of a model's path or hub id, in the characters that namespaces have.

    The worker's and every stack's, so that they learn together.
    """
    name = model.rstrip("/").rpartition("/")[2] or "model"
    return _BANNED.sub("-", name)[:NAMESPACE_CHARACTERS_MAX]


def namespace_of(base: str, adapter: str = "", salt: str = "") -> str:
    """Distinct for distinct (base, adapter, salt); the salt itself, which may be a secret, stays out."""
    name = base
    if adapter:
        name += f":lora:{_part(adapter)}"
    if salt:
        name += f":salt:{_digest(salt)}"
    if len(name) > NAMESPACE_CHARACTERS_MAX:
        name = name[: NAMESPACE_CHARACTERS_MAX - 2 * DIGEST_BYTES - 1] + "-" + _digest(name)
    return name


def _part(text: str) -> str:
    if len(text) <= PART_CHARACTERS_MAX and not _BANNED.search(text):
        return text
    kept = PART_CHARACTERS_MAX - 2 * DIGEST_BYTES - 1
    return f"{_BANNED.sub('-', text)[:kept]}:{_digest(text)}"


def _digest(text: str) -> str:
    return blake2b(text.encode(errors="surrogatepass"), digest_size=DIGEST_BYTES).hexdigest()
