"""An engine that decodes texts which are known already: steps, drafts and verdicts as any engine's.

python -m tests.web.traffic unix:/path/draft.sock NAMESPACE SECONDS
"""

import sys
import time
import uuid
from pathlib import Path

from retrieval_draft.client import GrpcClient
from retrieval_draft.conversation import Conversation
from retrieval_draft.step import DraftOptions
from retrieval_draft.tokenizer import fingerprint, load_tokenizer
from retrieval_draft.tree import int32s
from retrieval_draft.v1 import store_pb2 as pb

PROMPT_TOKENS = 24
NODES_MAX = 16


def drive(
    target: str, namespace: str, seconds: float, steps_max: int = 0, pause: float = 0.0
) -> int:
    """Decode Python source until the time is over, or so many steps were taken; returns the steps."""
    tokenizer = load_tokenizer("demo")
    texts = [path.read_text() for path in sorted(Path(uuid.__file__).parent.glob("*.py"))]
    create = pb.CreateNamespaceRequest(
        namespace=namespace,
        vocab_size=tokenizer.get_vocab_size(),
        tokenizer_fingerprint=fingerprint(tokenizer),
    )
    client = GrpcClient(target)
    talk = Conversation(
        client,
        namespace,
        tokenizer.get_vocab_size(),
        DraftOptions(nodes_max=NODES_MAX),
        step_ms_max=500.0,
        create=create,
    )
    ends, steps = time.monotonic() + seconds, 0
    try:
        for number, text in enumerate(texts * 100):
            tokens = tokenizer.encode(text[:4000]).ids
            name, at = f"sequence-{number}", PROMPT_TOKENS
            talk.open(name, int32s(tokens[:at]))
            while at < len(tokens):
                if time.monotonic() > ends or (steps_max and steps >= steps_max):
                    talk.finish(name)
                    return steps
                tree = talk.draft({name: NODES_MAX}).get(name)
                path = [] if tree is None else tree.follow(tokens[at:])
                taken = tokens[at : at + len(path) + 1]
                talk.commit(name, int32s(taken), len(path))
                at += len(taken)
                steps += 1
                time.sleep(pause)
            talk.finish(name)
        return steps
    finally:
        talk.flush(2.0)
        client.close()


if __name__ == "__main__":
    print(drive(sys.argv[1], sys.argv[2], float(sys.argv[3]), pause=0.02))
