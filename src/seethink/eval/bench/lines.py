"""Keyed lines that are put in order at the end, so that two runs that end alike leave the same bytes."""

from __future__ import annotations

import os
from collections.abc import Sequence

from seethink.core.errors import UserError
from seethink.core.files import WAITING
from seethink.runs import keyed_lines


class KeyedLines(keyed_lines.KeyedLines):
    """One file of answers or grades."""

    def put_in_order(self, keys: Sequence[str]) -> None:
        """Have the file hold the records of these keys alone, in this order; it is replaced in one move."""
        places = [self._places[key] for key in keys]
        starts = [0]
        for _, length in places:
            starts.append(starts[-1] + length)
        if [start for start, _ in places] == starts[:-1] and self._end == starts[-1]:
            return
        waiting = self.path.with_name(f".{self.path.name}{WAITING}")
        try:
            with waiting.open("wb") as file:
                for key in keys:
                    file.write(self._line(key))
                file.flush()
                os.fsync(file.fileno())
            os.replace(waiting, self.path)
        except OSError as error:
            waiting.unlink(missing_ok=True)
            raise UserError(f"{self.path} cannot be written: {error}") from None
        os.close(self._file)
        self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        self._places = {key: (start, length) for key, start, (_, length) in zip(keys, starts[:-1], places, strict=True)}
        self._end = starts[-1]
