"""OpenAI-compatible HTTP around a decoder."""
