"""`python -m retrieval_draft` is `retrieval-draft`."""

from retrieval_draft.cli import main

main()
