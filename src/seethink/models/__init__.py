"""Models: loading, parts, and exact log-probabilities."""

from seethink.models import torchvision_shim  # noqa: F401  (before anything here imports transformers)
