"""What is stored: tiers and their indexes in memory, the journal and corpora in Redis."""
