"""Models: loading, parts, and exact log-probabilities."""
