"""The worlds as data: `world:DOMAINS[:traces][?OPTIONS]` sources (options: `damage.py`, and `leaps=0.5` of
`world:zoom:traces`, the share that answers without a call), and Parquet files of them.

Sources that begin with `world2:` are read by `seethink.world.v2.source`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from seethink.core.errors import UserError
from seethink.core.files import claim_file, replacing
from seethink.core.png import png_bytes
from seethink.core.types import Sample
from seethink.world import wall
from seethink.world.damage import Damage, parse_damage, read_share
from seethink.world.digits import SPLITS, Split
from seethink.world.questions import TASKS, Item, make_item
from seethink.world.scenes import DOMAINS, OTHER_DOMAINS
from seethink.world.trace import teacher_trace
from seethink.world.v2 import source as second

PREFIX = "world:"
LEAPS = "leaps="
MARK = b"seethink"
"""In the metadata of the files that are written here."""


def is_world(source: str) -> bool:
    return source.startswith((PREFIX, second.PREFIX))


def all_domains(source: str) -> str:
    """The source of every domain of the same world.

    >>> all_domains("world2:rl?stage=rl")
    'world2:all'
    """
    return f"{second.PREFIX if source.startswith(second.PREFIX) else PREFIX}all"


def parse_source(source: str) -> tuple[tuple[str, ...], bool]:
    """`world:math,dice:traces` -> (("math", "dice"), True). `all` and `other` name groups of domains."""
    if source.startswith(second.PREFIX):
        read = second.parse(source)
        return read.domains, read.form == "traces"
    names, _, kind = source.removeprefix(PREFIX).partition("?")[0].partition(":")
    domains = {"all": tuple(DOMAINS), "other": OTHER_DOMAINS}.get(names) or tuple(names.split(","))
    unknown = [name for name in domains if name not in (*DOMAINS, wall.DOMAIN)]
    if unknown:
        known = ", ".join((*DOMAINS, wall.DOMAIN))
        raise UserError(f"{source!r}: no domain {unknown[0]!r}; choose from {known}, all, other")
    if kind not in ("", "traces"):
        raise UserError(f"{source!r}: after the domains only ':traces' may follow, found {kind!r}")
    return domains, kind == "traces"


def parse_options(source: str) -> tuple[Damage, float]:
    """The options after the `?` of a source: damage and denials, and the share of leaps. Raises UserError."""
    options = source.partition("?")[2].split("&")
    leaps = next((option.removeprefix(LEAPS) for option in reversed(options) if option.startswith(LEAPS)), "0")
    try:
        damage = parse_damage("&".join(option for option in options if not option.startswith(LEAPS)))
        return damage, read_share("leaps", leaps)
    except ValueError as error:
        raise UserError(f"{source!r}: {error} (leaps is another, of world:zoom:traces)") from None


def one_domain(source: str, domain: str) -> str:
    """The source of a single domain, without traces, as evaluation reads it.

    >>> one_domain("world:all:traces?image=blank", "dice")
    'world:dice?image=blank'
    """
    if source.startswith(second.PREFIX):
        return second.one_domain(source, domain)
    options = second.without_traces(source.partition("?")[2])
    return f"{PREFIX}{domain}{'?' * bool(options)}{options}"


def world_samples(source: str, split: str, size: int, seed: int) -> list[Sample]:
    """`size` samples with domains and difficulties in turn. Raises UserError.

    Item i of a domain depends on (seed, split, domain, i) alone.
    """
    if source.startswith(second.PREFIX):
        return second.samples(source, split, size, seed)
    (domains, traces), (damage, leaps) = parse_source(source), parse_options(source)
    for name, share in (("denials", damage.denials), ("leaps", leaps)):
        if share and not traces:
            raise UserError(f"{source!r}: {name} are of traces; add ':traces' before the '?'")
    if leaps and wall.DOMAIN not in domains:
        raise UserError(f"{source!r}: leaps are of world:zoom:traces; leave them out")
    own = next((known for known in SPLITS if known == split), None)
    if own is None:
        raise UserError(f"the world has the splits {', '.join(SPLITS)}, not {split!r}")
    return [
        _sample(domains[i % len(domains)], i // len(domains), own, seed, traces, damage, leaps) for i in range(size)
    ]


def _sample(domain: str, index: int, split: Split, seed: int, traces: bool, damage: Damage, leaps: float) -> Sample:
    place = [seed, SPLITS.index(split), [*DOMAINS, wall.DOMAIN].index(domain), index]
    rng = np.random.default_rng(place)
    if domain == wall.DOMAIN:
        sample = wall.wall_sample(index, split, seed, trace=traces, leaps=leaps)
    else:
        item = make_item(domain, list(TASKS)[index % len(TASKS)], split, rng)
        sample = to_sample(item, f"{domain}-{split}-{seed}-{index}", teacher_trace(item, rng) if traces else None)
    # Damage draws from a generator of its own, so that the items are those of the source without options.
    return damage.apply(sample, traces, np.random.default_rng([*place, 1])) if damage != Damage() else sample


def to_sample(item: Item, id: str, response: str | None) -> Sample:
    """An item as a sample. Its answer has no type: the grader tells the kind of the world's golds by itself."""
    return Sample(
        id=id,
        question=item.question.text,
        images=(item.image,),
        answer=item.answer,
        choices=item.choices,
        domain=item.scene.domain,
        difficulty=item.difficulty,
        response=response,
        meta={"task": item.task},
    )


def write_parquet(samples: list[Sample], path: Path) -> None:
    """Write one row per sample, with images as `{"bytes": PNG, "path": None}` (Hugging Face's image form)."""
    rows = [
        {
            "id": s.id,
            "prompt": s.question,
            "images": [{"bytes": png_bytes(image), "path": None} for image in s.pictures()],
            "answer": s.answer,
            "choices": list(s.choices),
            "domain": s.domain,
            "difficulty": s.difficulty,
            "response": s.response,
        }
        for s in samples
    ]
    table = pa.Table.from_pylist(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        pa.parquet.write_table(table.replace_schema_metadata({MARK: b"world"}), file)


def claim_parquet(path: Path) -> None:
    """Raises UserError where `write_parquet` could not write, or would replace a file that is not its own."""

    def is_marked(file: Path) -> bool:
        try:
            return MARK in (pa.parquet.read_schema(file).metadata or {})
        except (OSError, pa.ArrowException):
            return False

    claim_file(path, is_marked, "a file of `seethink world make`", "PATH")
