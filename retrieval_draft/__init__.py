"""Drafts for speculative decoding without a trained draft model: from seen tokens and corpora."""

__version__ = "0.1.0"
