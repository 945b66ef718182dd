"""Stored benchmark results as other harnesses' files, to compare with theirs."""
