"""seethink: post-train vision-language models to reason (see, then think)."""

import os

__version__ = "0.1.0"

# Waiting threads that spin for long make a run many times slower as soon as another job takes one of its cores; where
# they sleep at once, every small parallel operation waits for the kernel to wake them. GNU's OpenMP, torch's on Linux,
# can be told to look a thousand times first (docs/speed.md has the figures). Read once, when torch loads.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
