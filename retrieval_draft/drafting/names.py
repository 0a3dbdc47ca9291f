"""The names of the methods that are served, known without loading a kernel."""

METHODS = (
    "mix",
    "suffix",
    "recycling",
    "stand",
    "hierarchy",
    "rest",
    "rasd",
    "aded",
    "phrases",
    "lookup",
)
FUSING_METHODS = ("mix", "rasd")
"""Take the worker's own drafts into theirs."""
DEFAULT_METHOD = "mix"
