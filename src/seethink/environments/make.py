"""The environments by the names that recipes use."""

from __future__ import annotations

from collections.abc import Callable

from seethink.config import EnvironmentName
from seethink.environments.calculator import Calculator
from seethink.environments.protocol import Environment
from seethink.environments.zoom import Zoom

ENVIRONMENTS: dict[EnvironmentName, Callable[[], Environment]] = {"calculator": Calculator, "zoom": Zoom}
"""A new environment for each completion."""
