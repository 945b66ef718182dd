"""Data of a benchmark from the Hugging Face hub, only where a user asks for them."""

from __future__ import annotations

from pathlib import Path

from seethink.core.console import say
from seethink.eval.bench.benchmark import BenchError, Benchmark
from seethink.eval.bench.load import find


def download(benchmark: Benchmark, root: Path) -> None:
    """Fetch a benchmark's files into its folder under `root`, where none of its layouts is there.

    Nothing of the data set is run: only Parquet files of its split are taken. Raises BenchError.
    """
    if find(benchmark, root) is not None:
        return
    source = next((one for one in benchmark.sources if one.kind == "hub"), None)
    if source is None:
        wanted = "; or ".join(one.shown for one in benchmark.sources)
        raise BenchError(f"{benchmark.name} is not on the hub in a layout that can be read; fetch {wanted}")
    folder = root / benchmark.name
    patterns = [f"{config}/{source.split}*.parquet" for config in source.configs or ("data",)]
    patterns.append(f"{source.split}*.parquet")
    say(f"{benchmark.name}: fetching {source.name} ({source.split}) at {source.revision} into {folder}")
    try:
        from huggingface_hub import snapshot_download

        snapshot_download(
            source.name, repo_type="dataset", revision=source.revision, allow_patterns=patterns, local_dir=folder
        )
    except Exception as error:  # what it raises depends on the hub and the network
        said = " ".join(str(error).split())[:300]
        raise BenchError(f"{source.name} cannot be fetched: {type(error).__name__}: {said}") from None
    if find(benchmark, root) is None:
        raise BenchError(f"{source.name} has no files {', '.join(patterns[:3])}; fetch {source.shown} by hand")
