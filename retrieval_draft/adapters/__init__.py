"""Drafting in serving stacks: what they share here, each stack's own hook in a module of its name.

Importing this package loads no stack. Everything that a stack calls returns in bounded time and raises
nothing: a fault of ours costs drafts and never a token.
"""
