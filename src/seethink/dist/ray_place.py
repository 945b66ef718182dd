"""What runs on the machines of a Ray cluster: a process of a run, and who watches it.

It imports neither torch nor anything that does: Ray gives its workers little of a busy machine, and each loads this.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from typing import IO

import ray

Environment = dict[str, str]
_DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux' prctl


class Place:
    """Room for one process on one machine of the cluster; a Ray actor."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes]

    def address(self, host: str | None) -> tuple[str, int]:
        """`host`, or this machine's address in the cluster, and a port of it that is free."""
        address = host or ray.util.get_node_ip_address()
        with socket.create_server((address, 0)) as server:
            return address, server.getsockname()[1]

    def start(self, words: Sequence[str], folder: str, variables: Environment, defaults: Environment) -> None:
        """Run a command in `folder`, with this machine's environment, where `variables` win and `defaults` do not.

        Its first word may be empty: then it is this machine's Python.
        """
        command = [words[0] or sys.executable, *words[1:]]
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  (as long as the process)
        self._process = subprocess.Popen(
            command, cwd=folder, env=defaults | os.environ | variables, stdout=self._output,
            stderr=self._output, start_new_session=True, preexec_fn=_die_with_parent,
        )  # fmt: skip

    def state(self, told: int) -> tuple[int | None, bytes]:
        """The exit code, None while it runs, and what was printed after the first `told` bytes."""
        assert self._process is not None
        code = self._process.poll()  # before its output is read, so that nothing comes after
        return code, os.pread(self._output.fileno(), 1 << 20, told)

    def signal(self, number: int, is_group: bool) -> None:
        """With `is_group` to all that the process started, even where it has ended itself."""
        if self._process is None:
            return
        if is_group:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
        elif self._process.poll() is None:
            self._process.send_signal(number)


def _die_with_parent() -> None:
    """A rank whose actor is gone would keep its GPU."""
    ctypes.CDLL(None).prctl(_DIES_WITH_PARENT, signal.SIGKILL)
