"""What `make docs` does to the pages: benchmark files that they link to become part of the site."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\(\.\./(benchmarks/[^)#]+)")


def on_files(files: Files, *, config: Any) -> Files:
    """Add every benchmark file that a page links to."""
    linked = {name for page in files.documentation_pages() for name in LINK.findall(page.content_string)}
    linked |= {f"benchmarks/{name}" for name in _of_benchmarks(linked)}
    for name in sorted(linked):
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def _of_benchmarks(linked: set[str]) -> set[str]:
    """Files beside a benchmark's page that the page links to."""
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in linked if name.endswith(".md")]
    return {name for text in texts for name in re.findall(r"\]\(([\w.-]+)\)", text)}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """In the repository benchmarks lie beside docs/, on the site below it."""
    return LINK.sub(r"](\1", markdown)
