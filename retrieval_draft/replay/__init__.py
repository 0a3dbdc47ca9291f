"""Drafting replayed over recorded outputs: figures, reports and what-if, in one process and thread."""
