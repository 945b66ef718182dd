"""Files, folders, hub names and the world -> Samples.

Rows have our own columns or those of another trainer (`styles.py`). Bad rows are left out and counted
(`quarantine.py`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import TypeVar

from seethink.config import ReadConfig
from seethink.core.console import say
from seethink.core.cores import available_cores
from seethink.core.redact import visible
from seethink.core.types import Sample
from seethink.data.columns import recognise
from seethink.data.fields import Row, Style
from seethink.data.files import RawRow, data_files, is_pattern, matching_files, read_files
from seethink.data.hub import is_hub_name, open_hub
from seethink.data.image_store import ImageStore
from seethink.data.quarantine import DataError, Problem, Quarantine, RowError, advice, as_quarantine
from seethink.data.rows import ReadGold, RowReader, RowResult
from seethink.world.make import is_world, world_samples

PROBE = 20
"""Rows from which the style of columns is told."""
AHEAD = 32
"""Rows whose images are checked ahead of the row that is handed out; the same on every machine."""
WORKERS = min(8, available_cores())

T = TypeVar("T")
R = TypeVar("R")


def read_rows(
    source: str,
    split: str,
    config: ReadConfig | None = None,
    *,
    golds: ReadGold,
    size: int | None = None,
    seed: int = 0,
    graded: bool = False,
    store: ImageStore | None = None,
) -> Iterator[RowResult]:
    """Every row of a source in order, streamed. Raises DataError for a source that cannot be read at all.

    `source` is `world:DOMAINS[:traces][?OPTIONS]`, a path, or a Hugging Face name. `size` is the number of items of a
    world source. With `graded`, a row without a gold answer is bad. One thread per core decodes each image once, to
    check it, and does not keep the pixels; encoded images that are no files of their own go to `store`.
    """
    config = config or ReadConfig()
    if is_world(source):
        yield from _world_rows(source, split, size, seed)
        return
    raw, root = _open(source, split, config)
    head, style = _probe(raw, config.style, source)
    reader = RowReader(style, root, config, golds, graded, store)
    yield from _in_order(reader.read, chain(head, raw))


def load_samples(
    source: str,
    split: str,
    size: int | None,
    seed: int,
    *,
    golds: ReadGold,
    config: ReadConfig | None = None,
    quarantine: Quarantine | Path | None = None,
    graded: bool = False,
    store: ImageStore | None = None,
) -> list[Sample]:
    """The first `size` good samples of a source; bad rows go to `quarantine`.

    `golds` reads the gold answers: `seethink.rewards.golds.read_gold`. With `graded` (RL and evaluation), a row
    without a gold answer is bad. Encoded images that are no files of their own are kept in `store`, or in one of
    `data.memory_mb`. Raises DataError where the source cannot be read, or where more than
    `data.max_bad_share` of its rows are bad.
    """
    config = config or ReadConfig()
    samples: list[Sample] = []
    problems: list[Problem] = []
    last: RowResult | None = None
    unread: set[str] = set()
    store = store or ImageStore(config.encoded_bytes)
    rows = read_rows(source, split, config, golds=golds, size=size, seed=seed, graded=graded, store=store)
    for result in rows if size is None else _until(rows, size):
        if result.sample is not None:
            samples.append(result.sample)
            last = result
            unread.update(result.unread_images)
        elif result.problem is not None:
            problems.append(result.problem)
    count = len(samples) + len(problems)
    if not count:
        raise DataError(f"{source} has no rows")
    if not samples and all(p.reason == "missing_column" for p in problems):
        raise DataError(f"{source}: in every row {problems[0].detail}")
    if last is not None and last.style is not None:
        read = f"{count:,} row{'s' * (count != 1)} in {last.style.title} columns ({', '.join(last.columns)})"
        say(visible(f"{source}: {read}"))
    if unread:
        say(visible(f"{source}: columns that hold images too and are not read: {', '.join(sorted(unread))}"))
    as_quarantine(quarantine).report(source, problems, config.max_bad_share, rows=count)
    if not samples:
        raise DataError(f"{source}: no good row is left of {count:,}: {problems[0]}. {advice(problems)}")
    return samples


def _until(rows: Iterator[RowResult], size: int) -> Iterator[RowResult]:
    """Rows up to and including the `size`-th good one."""
    good = 0
    for result in rows:
        yield result
        good += result.sample is not None
        if good == size:
            return


def _world_rows(source: str, split: str, size: int | None, seed: int) -> Iterator[RowResult]:
    if size is None:
        raise DataError(
            f"{source!r} is endless: give a size (data.train_size, data.val_size, eval.size; of a mixture each "
            "source's own in [[data.mixture]])"
        )
    try:
        samples = world_samples(source, split, size, seed)
    except ValueError as error:
        raise DataError(str(error)) from None
    yield from (RowResult(source, i, None, sample=sample) for i, sample in enumerate(samples, start=1))


def _open(source: str, split: str, config: ReadConfig) -> tuple[Iterator[RawRow], Path]:
    """(the rows, the folder that image paths are confined in)."""
    path = Path(source).expanduser()
    if path.exists():
        root = Path(config.image_root) if config.image_root else (path if path.is_dir() else path.parent)
        return read_files(data_files(path, split)), root
    if is_pattern(source):
        files, folder = matching_files(str(path))
        return read_files(files), Path(config.image_root) if config.image_root else folder
    if not is_hub_name(source):
        raise DataError(f"no data at {source!r}; give a file, a folder, world:DOMAINS[:traces] or org/name")
    if not config.allow_download:
        raise DataError(
            f"no data at {source!r}; if it is the name of a Hugging Face data set, set data.allow_download=true to "
            "fetch it"
        )
    rows, root = open_hub(source, split)
    return rows, Path(config.image_root) if config.image_root else root


def _probe(raw: Iterator[RawRow], stated: str, source: str) -> tuple[list[RawRow], Style]:
    """(the rows that were read to tell the style, the style of the source)."""
    head: list[RawRow] = []
    known: list[Row] = []
    for row in raw:
        head.append(row)
        if not isinstance(row.data, RowError):
            known.append(row.data)
        if len(known) == PROBE:
            break
    if not head:
        raise DataError(f"{source} has no rows")
    if not known:
        error = head[0].data
        what = "is JSON" if isinstance(error, RowError) and error.reason == "not_json" else "can be read"
        raise DataError(f"{source}: none of the {len(head):,} rows {what}: row {head[0].row}: {error}")
    return head, recognise(known, stated, source)


def _in_order(work: Callable[[T], R], items: Iterator[T]) -> Iterator[R]:
    """Results in the order of the items; a few threads work up to AHEAD items ahead."""
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="rows") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
