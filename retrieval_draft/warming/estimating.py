"""What a warming would come to, without a sidecar."""

import threading
from collections.abc import Callable, Iterable

from tokenizers import Tokenizer

from retrieval_draft.warming.documents import Document
from retrieval_draft.warming.sending import Warmed
from retrieval_draft.warming.tokenising import Tokeniser, batches


def estimate(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    stop: threading.Event,
    advance: Callable[[Warmed], None] = lambda warmed: None,
) -> Warmed:
    """Tokenise and count everything; equal documents count each time. Ends early once `stop` is set."""
    tokeniser = Tokeniser(tokenizer)
    warmed = Warmed(tokenised=tokeniser.work)
    for batch in batches(documents):
        warmed.documents += len(batch)
        warmed.tokens += sum(len(one.ids) for one in tokeniser.encoded(batch))
        advance(warmed)
        if stop.is_set():
            warmed.is_interrupted = True
            break
    return warmed
