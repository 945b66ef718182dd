"""Mistakes that a user can mend: shown as one line with exit code 2, never as a traceback."""


class UserError(ValueError):
    """Says what was expected, what was found, where, and what to do."""
