"""A mixture's sources, each of which was read, as the one set of training rows that a run makes of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest

from seethink.config import Recipe
from seethink.data.mixture import Pool, Weights, in_proportion, require_domains
from seethink.data.quarantine import DataError
from seethink.doctor.check import Report, Status
from seethink.doctor.scan import KEPT, Scan, Source
from seethink.world.make import is_world


def joined(scans: Sequence[Scan], source: Source) -> Scan:
    """The good rows of all sources in the order in which a run has them; what was wrong stays with each source."""
    whole = Scan(source)
    for one in scans:
        whole.rows += one.rows
        whole.pictures.widths += one.pictures.widths
        whole.pictures.heights += one.pictures.heights
        whole.pictures.formats += one.pictures.formats
        whole.pictures.per_sample += one.pictures.per_sample
        whole.pictures.text_only += one.pictures.text_only
        whole.pictures.frames += one.pictures.frames
        whole.pictures.seconds += one.pictures.seconds
        whole.lengths.prompts += one.lengths.prompts
        whole.lengths.responses += one.lengths.responses
        whole.lengths.image_tokens += one.lengths.image_tokens
        whole.ids |= {name: whole.ids.get(name, 0) + count for name, count in one.ids.items()}
        whole.pools += _pools(one)
        if one.longest is not None and (whole.longest is None or one.longest_tokens > whole.longest_tokens):
            whole.longest, whole.longest_tokens = one.longest, one.longest_tokens
    for which, place in in_proportion([one.good for one in scans]):
        one = scans[which]
        whole.places.append(one.places[place])
        whole.questions.append(one.questions[place])
        whole.image_hashes.append(one.image_hashes[place])
        whole.answers.append(one.answers[place])
    turns = zip_longest(*(one.kept for one in scans))
    whole.kept = [sample for turn in turns for sample in turn if sample is not None][:KEPT]
    return whole


def _pools(one: Scan) -> Counter[Pool]:
    """Good rows by source and domain; of a world, of which not every row is looked at, as many as the run takes."""
    more = one.source.size or one.rows
    scale = more / one.rows if is_world(one.source.source) and more > one.rows > 0 else 1
    return Counter({pool: round(count * scale) for pool, count in one.pools.items()})


def check_shares(report: Report, recipe: Recipe, train: Scan) -> None:
    """What a run draws of each source and domain, by the good rows."""
    weights = Weights.of(recipe.data)
    for line in weights.lines(train.pools):
        report.add("data.train", "mixture", Status.INFO, line)
    if not train.good:
        return
    try:
        require_domains(recipe.data.domain_weights, (domain for _, domain in train.pools))
    except DataError as error:
        report.add("data.train", "domain weights", Status.FAIL, str(error), "correct the name in data.domain_weights")
