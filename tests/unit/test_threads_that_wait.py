"""What the command line tells OpenMP before torch is loaded."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
CODE = f"""
import os, sys
sys.argv = ["seethink", "--version"]
from seethink.cli.main import main
try:
    main()
except SystemExit:
    pass
print("torch" in sys.modules, *(os.environ.get(n) for n in {NAMES}))
"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ["PASSIVE", "1000"]),
        ({"GOMP_SPINCOUNT": "5"}, ["PASSIVE", "5"]),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, ["PASSIVE", "None"]),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, ["ACTIVE", "None"]),
    ],
)
def test_what_the_user_has_set_stays(given: dict[str, str], expected: list[str]) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in NAMES} | given
    said = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True, env=environment)
    assert said.stdout.splitlines()[-1].split() == ["False", *expected]
