"""What serves models of a few million parameters on a CPU: a step of them costs what its calls cost.

One switch, `ENABLED`, turns all of it off (`SEETHINK_SMALL_CPU=0` in the environment); results stay the same up to the
order of sums. `benchmarks/small_cpu.py` measures what each piece gains, docs/speed.md has the figures.
"""

from __future__ import annotations

import os

ENABLED = os.environ.get("SEETHINK_SMALL_CPU", "1") != "0"
