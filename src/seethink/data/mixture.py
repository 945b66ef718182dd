"""A run's training rows, of one source or of several that are mixed by weight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from seethink.config import DataConfig, MixtureSource, ReadConfig
from seethink.core.types import Sample
from seethink.data.draws import Draws
from seethink.data.image_store import ImageStore
from seethink.data.lengths import load_fitting
from seethink.data.quarantine import DataError, Quarantine
from seethink.data.rows import ReadGold

if TYPE_CHECKING:
    from seethink.data.chat import Chat

Pool = tuple[str, str]
"""The name of a source and a domain of it."""
SOURCE = "source"
"""In `Sample.meta`: the name of the sample's source in a mixture."""


def load_training(
    data: DataConfig, seed: int, chat: Chat | None, quarantine: Quarantine, *, golds: ReadGold, graded: bool = False
) -> list[Sample]:
    """The samples of `data.train`, or of all sources of `data.mixture`. Arguments are those of `load_fitting`.

    The samples of a mixture are ordered so that every beginning of the list has a like share of each source: what
    is held out of training is taken from the beginning. Raises DataError.
    """

    store = ImageStore(data.encoded_bytes)

    def load(source: str, size: int | None, reading: ReadConfig) -> list[Sample]:
        return load_fitting(
            source, "train", size, seed, chat, reading, quarantine, golds=golds, graded=graded, store=store
        )

    samples = _mixed(data, load) if data.is_mixture else load(data.train, data.train_size, data)
    require_domains(data.domain_weights, (sample.domain for sample in samples))
    return samples


def _mixed(data: DataConfig, load: Callable[[str, int | None, ReadConfig], list[Sample]]) -> list[Sample]:
    found = []
    for entry in data.mixture:
        try:
            samples = load(entry.source, entry.size, entry_reading(data, entry))
        except DataError as error:
            raise DataError(f"data.mixture, {entry.title!r}: {error}") from None
        found.append([named(sample, entry) for sample in samples])
    return [found[source][place] for source, place in in_proportion([len(samples) for samples in found])]


def entry_reading(data: DataConfig, entry: MixtureSource) -> ReadConfig:
    """How the rows of one source of a mixture are read."""
    own = {"style": entry.style, "image_root": entry.image_root}
    return data.model_copy(update={key: value for key, value in own.items() if value is not None})


def named(sample: Sample, entry: MixtureSource) -> Sample:
    """A sample that says of which source it is, in its id too: two sources may have the same ids."""
    domain = sample.domain if entry.domain is None else entry.domain
    meta = sample.meta | {SOURCE: entry.title}
    return replace(sample, id=f"{entry.title}/{sample.id}", domain=domain, meta=meta)


def in_proportion(counts: Sequence[int]) -> list[tuple[int, int]]:
    """(source, place) of every sample of sources with so many samples, each spread evenly from beginning to end.

    >>> in_proportion([4, 2])
    [(0, 0), (1, 0), (0, 1), (0, 2), (1, 1), (0, 3)]
    """
    places = [(source, place) for source, count in enumerate(counts) for place in range(count)]
    return sorted(places, key=lambda spot: ((2 * spot[1] + 1) / (2 * counts[spot[0]]), spot[0]))


@dataclass(frozen=True, slots=True)
class Weights:
    """How often samples are drawn; by default each once an epoch."""

    sources: dict[str, float] = field(default_factory=dict)
    """Of a mixture, by name: each source's share of the draws is its weight over the sum of all."""
    domains: dict[str, float] = field(default_factory=dict)
    """How often a sample of a domain is drawn, against 1 of a sample of another domain of the same source."""

    @classmethod
    def of(cls, data: DataConfig) -> Weights:
        sources = {entry.title: entry.weight for entry in data.mixture} if data.is_mixture else {}
        return cls(sources, dict(data.domain_weights))

    def draws(self, samples: Sequence[Sample], seed: int) -> Draws:
        """The order in which these samples are drawn. A source or a domain of which none is left has no share."""
        pools: dict[Pool, list[int]] = {}
        for place, sample in enumerate(samples):
            key = source_of(sample), sample.domain if self.domains else ""
            pools.setdefault(key, []).append(place)
        shares = self._shares({key: len(places) for key, places in pools.items()})
        return Draws(list(pools.values()), list(shares.values()), seed)

    def lines(self, rows: Mapping[Pool, int]) -> list[str]:
        """What is drawn of each source and of each domain with a weight, for people; nothing without weights."""
        shares, whole = self._shares(rows), sum(rows.values())
        found = []
        for kind, weights, at in (("source", self.sources, 0), ("domain", self.domains, 1)):
            for name, weight in weights.items():
                own = sum(count for pool, count in rows.items() if pool[at] == name)
                share = sum(share for pool, share in shares.items() if pool[at] == name)
                drawn = f"{share:.1%} of the draws, {share * whole / own:.2f} per row and epoch" if own else "none"
                found.append(f"{kind} {name}: {own:,} rows, weight {weight:g}: {drawn}")
        return found

    def _shares(self, rows: Mapping[Pool, int]) -> dict[Pool, float]:
        """Share of the draws of every pool."""
        weights = {pool: count * self.domains.get(pool[1], 1.0) for pool, count in rows.items() if count}
        of_source: dict[str, float] = {}
        for (source, _), weight in weights.items():
            of_source[source] = of_source.get(source, 0.0) + weight
        whole = sum(self.sources.get(source, 1.0) for source in of_source)
        return {
            (source, domain): self.sources.get(source, 1.0) / whole * weight / of_source[source]
            for (source, domain), weight in weights.items()
        }

    def counted(self, samples: Iterable[Sample]) -> dict[str, float]:
        """`data/NAME`: how many of some samples are of each source; nothing without a mixture."""
        if not self.sources:
            return {}
        counts = Counter(map(source_of, samples))
        return {f"data/{name}": float(counts[name]) for name in self.sources}


def source_of(sample: Sample) -> str:
    """The name of the sample's source in a mixture, else ""."""
    return str(sample.meta.get(SOURCE, ""))


def tally(samples: Iterable[Sample]) -> Counter[Pool]:
    """How many samples there are of each source and domain."""
    return Counter((source_of(sample), sample.domain) for sample in samples)


def require_domains(weights: Iterable[str], domains: Iterable[str]) -> None:
    """Raises DataError where a weight is given to a domain that no row has."""
    known = sorted(set(domains))
    missing = next((domain for domain in weights if domain not in known), None)
    if missing is not None:
        shown = ", ".join(map(repr, known[:20])) + (", ..." if len(known) > 20 else "")
        raise DataError(f"data.domain_weights: no row has the domain {missing!r}; there are {shown}")
