"""What a checkpoint holds, copied into main memory, and a thread that writes it while training goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from torch import Tensor

from seethink.models.shares import own_share


def copied(tensors: dict[str, Tensor], changing: Iterable[Tensor] | None = None) -> dict[str, Tensor]:
    """The tensors in main memory, where no update reaches them; what shared memory before shares it afterwards.

    With `changing`, tensors that share no memory with any of these are given as they are: frozen weights stay as they
    are, and weights that were gathered are copies already. Of sharded tensors each rank copies its share.
    """
    live = None if changing is None else {_storage(tensor) for tensor in changing}
    done: dict[tuple[object, ...], Tensor] = {}
    found = {}
    for name, tensor in tensors.items():
        if live is not None and _storage(tensor) not in live:
            found[name] = tensor
            continue
        local = own_share(tensor)
        view = (_storage(tensor), local.storage_offset(), tuple(tensor.shape), tuple(local.stride()), tensor.dtype)
        if view not in done:
            done[view] = tensor.detach().to("cpu", copy=True)
        found[name] = done[view]
    return found


def _storage(tensor: Tensor) -> int:
    return own_share(tensor).untyped_storage().data_ptr()


class BackgroundSave:
    """A checkpoint that a thread of its own writes."""

    def __init__(self, step: int, write: Callable[[], object]) -> None:
        self.step = step
        self._error: BaseException | None = None
        # A daemon, so that a second Ctrl-C ends the process at once: what is half written then, a resumed run removes.
        self._thread = threading.Thread(target=self._run, args=(write,), name=f"checkpoint {step}", daemon=True)
        self._thread.start()

    def _run(self, write: Callable[[], object]) -> None:
        try:
            write()
        except BaseException as error:
            self._error = error

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def wait(self) -> None:
        """Until it is written. Raises what the writing raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
