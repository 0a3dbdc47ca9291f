"""Tokenizers without torch: from a file, a model's folder, or the bundled demo model."""

import hashlib
import json
from pathlib import Path

from tokenizers import Tokenizer

from retrieval_draft.errors import FailedPrecondition, InvalidInput

DEMO = "demo"


def demo_folder() -> Path:
    """The bundled demo model, wherever gpu/ was installed."""
    import retrieval_draft.gpu.demo as package

    return Path(package.__file__ or "").parent / "model"


def load_tokenizer(name: str | Path) -> Tokenizer:
    """`demo`, a tokenizer.json, or a folder that has one.

    Raises InvalidInput if there is no such file, FailedPrecondition if it is no tokenizer.
    """
    path = demo_folder() if str(name) == DEMO else Path(name)
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        limit = f"`{DEMO}`, a tokenizer.json, or a folder that has one"
        raise InvalidInput("tokenizer", str(name), limit)
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises bare Exceptions
        raise FailedPrecondition(f"tokenizer {file} cannot be loaded: {error}") from error


def fingerprint(tokenizer: Tokenizer) -> str:
    """SHA-256 of the tokenizer's definition, in hex: equal for equal token ids."""
    return hashlib.sha256(tokenizer.to_str().encode()).hexdigest()


def vocab_size(tokenizer: Tokenizer) -> int:
    """Ids that the tokenizer can give, added tokens included."""
    size: int = tokenizer.get_vocab_size(with_added_tokens=True)
    return size


def model_vocab_size(name: str | Path, tokenizer: Tokenizer) -> int:
    """Rows of the model's embedding, as its config.json says: often more than its tokenizer's ids.

    Where no configuration lies beside the tokenizer, the tokenizer's own.
    """
    path = demo_folder() if str(name) == DEMO else Path(name)
    file = (path if path.is_dir() else path.parent) / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        said = config.get("vocab_size") or config.get("text_config", {}).get("vocab_size")
    except (OSError, ValueError, AttributeError):
        said = None
    return max(said, vocab_size(tokenizer)) if isinstance(said, int) else vocab_size(tokenizer)
