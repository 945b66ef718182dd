"""The version of this package, as its releases are numbered."""

__version__ = "0.1.0"
