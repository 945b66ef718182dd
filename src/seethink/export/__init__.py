"""A trained checkpoint as a folder that plain transformers and vLLM load, with a model card."""

from seethink.export.folder import ExportError, export_run

__all__ = ["ExportError", "export_run"]
