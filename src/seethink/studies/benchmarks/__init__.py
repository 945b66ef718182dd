"""Benchmarks run, listed, checked and compared: what `seethink eval --bench` and `seethink bench` do."""
