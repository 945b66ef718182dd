"""Where the rows of a benchmark are: three layouts on the local disk, found by their file names.

- `hub`: the Parquet files of a Hugging Face data set, as its repository holds them (`<config>/<split>-*.parquet`);
- `tsv`: VLMEvalKit's table, with images as base64, as lists of it, or as the index of another row;
- `json`: the benchmark's own JSON or JSONL with a folder or a zip of images.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from seethink.eval.bench.benchmark import Item
    from seethink.eval.bench.rows import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One layout.

    Example: `Source(kind="hub", name="Lin-Chen/MMStar", split="val", read=_row)`
    """

    kind: Literal["hub", "tsv", "json"]
    name: str
    """The data set on the hub, the TSV's name without its ending, or the name of the benchmark's own file."""
    read: Callable[[Row], Item | None]
    """A row as an item; None for a row that is not part of the benchmark."""
    configs: tuple[str, ...] = ()
    """Of a hub data set; () for its only one."""
    split: str = "test"
    revision: str = "main"
    """Commit of the hub repository that a download takes; `main` where none is pinned."""
    images: str = ""
    """Folder or zip of the images, beside the JSON file; "" for paths relative to the file."""

    @property
    def shown(self) -> str:
        """For messages: which files are looked for."""
        if self.kind == "tsv":
            return f"VLMEvalKit's {self.name}.tsv"
        if self.kind == "json":
            unpacked = ", packed or not" if self.images.endswith(".zip") else ""
            return f"{self.name} with {self.images or 'its images'}{unpacked}"
        where = f"{self.configs[0]}/" if len(self.configs) == 1 else "<config>/" if self.configs else "data/"
        return f"the files of {self.name} on the hub ({where}{self.split}*.parquet)"

    @property
    def pinned(self) -> str:
        """For people: which commit of a hub's repository a download takes; "" where there is none to take."""
        if self.kind != "hub":
            return ""
        return "no commit pinned" if self.revision == "main" else f"commit {self.revision[:12]}"

    def find(self, root: Path) -> list[tuple[Path, str]]:
        """(file, config) pairs of this layout under `root`, which may be the file itself; [] where it is not there."""
        files = [root] if root.is_file() else []
        if self.kind == "tsv":
            return [(path, "") for path in files or _named(root, f"{self.name}.tsv") if path.stem == self.name]
        if self.kind == "json":
            return [(path, "") for path in files or _named(root, self.name) if path.name == Path(self.name).name]
        of_split = re.compile(rf"{re.escape(self.split)}(-\d+-of-\d+(-\w+)?|-\d+)?\.parquet")
        for folder in self._folders(root):
            found = [
                (path, config)
                for config in self.configs or ("",)
                for path in files or self._of_config(folder, config)
                if of_split.fullmatch(path.name)
            ]
            if found:
                return found
        return []

    def lacks(self, files: list[tuple[Path, str]]) -> str:
        """Which images are not beside the found files: "" where they are, or are in the files themselves."""
        if not self.images:
            return ""
        beside = [path.parent / self.images for path, _ in files]
        here = (path.is_dir() or path.is_file() or path.with_suffix("").is_dir() for path in beside)
        return "" if all(here) else self.images

    def _folders(self, root: Path) -> list[Path]:
        """Where the repository's files may lie under `root`: there, in a folder of its name, or in a hub's cache."""
        cached = sorted((root / f"datasets--{self.name.replace('/', '--')}" / "snapshots").glob("*"))
        return [root / self.name, root / self.name.partition("/")[2], *cached, root]

    def _of_config(self, folder: Path, config: str) -> list[Path]:
        """Files of the only configuration may lie at the top or in `data`; of several in folders of their names."""
        names = [config] if len(self.configs) > 1 else [config, "data", ""]
        return [path for name in dict.fromkeys(names) for path in sorted((folder / name).glob("*.parquet"))]


def _named(root: Path, name: str) -> list[Path]:
    """The file of this name directly under `root`, else one anywhere below it."""
    if (root / name).is_file():
        return [root / name]
    return sorted(root.rglob(Path(name).name))[:1]
