"""What every process of a lab needs and takes seconds to import; the server that forks them imports this module."""

from __future__ import annotations

import importlib
import os

from seethink.studies.lab.job_process import ENVIRONMENT

MODULES = (
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.processing_auto",
    "transformers.models.got_ocr2.image_processing_got_ocr2",
    "transformers.models.internvl.modeling_internvl",
    "transformers.models.internvl.processing_internvl",
    "transformers.models.qwen2.modeling_qwen2",
    "transformers.models.qwen2.tokenization_qwen2",
    "seethink.studies.lab.measurements",
    "seethink.train.start",
)


def _import_all() -> None:
    os.environ.update(ENVIRONMENT)  # before torch is imported, which reads it
    from seethink.models.load import prepare_transformers

    prepare_transformers()
    for name in MODULES:
        importlib.import_module(name)
    from seethink.generate.in_process.step import capture_ahead

    capture_ahead("nano2")
    os.register_at_fork(after_in_child=_renew_threads)


def _renew_threads() -> None:
    """torch's thread pool does not survive a fork. It is made anew by the first call, which must not be one of several
    threads that load weights: the others would find no pool."""
    import torch

    torch.set_num_threads(torch.get_num_threads())


_import_all()
