"""A user's own reward: `reward.function = "module:function"` in place of the rule grader."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable
from numbers import Real
from pathlib import Path

from seethink.core.errors import UserError
from seethink.core.redact import visible
from seethink.core.types import Grade, Sample, Verdict

GradeFunction = Callable[[str, Sample], object]
"""`(response, sample)` -> a Grade, or the accuracy as a number from 0 to 1."""

_SHOWN_CHARS = 200


class RewardError(UserError):
    """A reward function that cannot be loaded or used; the message says what to do."""


def load_function(path: str, folder: Path | None = None) -> GradeFunction:
    """The function that `module:function` names, importable as usual or from a file in `folder`.

    An installed module comes before one of the same name in the folder. Raises RewardError.
    """
    module_name, _, name = path.partition(":")
    if folder is not None and str(folder.resolve()) not in sys.path:
        # It stays: the function may import its neighbours when it is called.
        sys.path.append(str(folder.resolve()))
    try:
        module = importlib.import_module(module_name)
        function = getattr(module, name)
    except Exception as error:  # the module is the user's code and may raise anything
        where = "importable here" if folder is None else f"importable here or a file in {folder}"
        problem = f"{type(error).__name__}: {error}{_place(error)}"
        raise RewardError(f"reward.function={path!r}: {problem}; it must be module:function, {where}") from error
    if not callable(function):
        raise RewardError(f"reward.function={path!r} is not a function but {type(function).__name__}")
    return function  # type: ignore[no-any-return]


class FunctionGrader:
    """Grades with a user's function, whose results are checked."""

    def __init__(self, path: str, folder: Path | None = None) -> None:
        """Raises RewardError where the function cannot be loaded."""
        self._path = path
        self._function = load_function(path, folder)

    def grade(self, response: str, sample: Sample) -> Grade:
        """The function's Grade, or one made of its number: correct at 1, else wrong with partial accuracy.

        Raises RewardError where the function raises or returns anything else.
        """
        try:
            found = self._function(response, sample)
        except Exception as error:  # the user's code may raise anything
            problem = f"raised {type(error).__name__}: {error}{_place(error)}"
            raise RewardError(f"{self._of(sample)} {problem}; correct the function") from error
        if isinstance(found, Grade) and (found.score is None or 0 <= found.score <= 1):
            return found
        if isinstance(found, Real) and 0 <= float(found) <= 1:
            score = float(found)
            return Grade(Verdict.CORRECT if score == 1 else Verdict.WRONG, None, f"{self._path}: {score:g}", score)
        said = f"{type(found).__name__} {visible(repr(found))[:_SHOWN_CHARS]}"
        raise RewardError(f"{self._of(sample)} returned {said}; expected a Grade or a number from 0 to 1")

    @property
    def source_sha256(self) -> str | None:
        """A hash of the file that the function stands in; None where it stands in none."""
        try:
            return hashlib.sha256(Path(inspect.getfile(self._function)).read_bytes()).hexdigest()
        except (TypeError, OSError):  # a built-in, or an object that is called
            return None

    def _of(self, sample: Sample) -> str:
        return f"reward.function={self._path!r} on sample {sample.id!r}"


def _place(error: Exception) -> str:
    """Where in the user's code it was raised, as " (file:line)"; empty where none of that code ran."""
    frames = traceback.extract_tb(error.__traceback__)[1:]
    own = [
        frame for frame in frames if frame.filename not in (__file__, importlib.__file__) and "<" not in frame.filename
    ]
    return f" ({own[-1].filename}:{own[-1].lineno})" if own else ""
