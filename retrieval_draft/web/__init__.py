"""The dashboard: what drafting brings, on one page that asks this sidecar alone. Read-only."""
