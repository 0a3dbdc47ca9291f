"""The names of the methods that are served, known without loading a kernel."""

METHODS = ("mix", "suffix", "recycling", "stand", "lookup")
DEFAULT_METHOD = "mix"
