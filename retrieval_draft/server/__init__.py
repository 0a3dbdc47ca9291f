"""The gRPC edge around an Engine: decode, authenticate, limit, map errors; and the process's life."""
