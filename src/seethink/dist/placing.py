"""A recipe's run on as many processes as it asks for, with the vLLM servers that it needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from seethink.config import Recipe
from seethink.core.errors import UserError
from seethink.dist.launch import Start, launch, start_here
from seethink.dist.servers import local_servers


def launch_recipe(recipe: Recipe, words: Sequence[str], *, ray: str | None = None) -> int:
    """Run `seethink train WORDS`, which makes `recipe`, on its processes; returns the run's exit code.

    They are processes of this machine, or of the Ray cluster at the address `ray`. Raises UserError where they cannot be
    placed.
    """
    with _starter(recipe, ray) as start:
        return launch(words, start, max_restarts=recipe.cluster.max_restarts)


@contextmanager
def _starter(recipe: Recipe, ray: str | None) -> Iterator[Start]:
    """What starts the ranks, here or on a Ray cluster, while the servers that they need run there."""
    if ray is None:
        with local_servers(recipe):
            yield partial(start_here, trainers=recipe.cluster.trainers)
        return
    try:
        from seethink.dist.ray import connected
    except ImportError:
        raise UserError("--ray needs the ray library on every machine: pip install 'seethink[ray]'") from None
    with connected(ray, recipe) as cluster:
        yield cluster.start
