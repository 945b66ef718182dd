"""seethink: post-train vision-language models to reason (see, then think)."""

import os

__version__ = "0.1.0"

# Waiting threads that spin make a run many times slower as soon as another job takes one of its cores. OpenMP reads
# this once, when torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
