"""How often responses say that the image cannot be seen, and what becomes of those that do (paper 6.4).

Share of responses, accuracy with and without such a statement, where in the response it stands, and the entropy before,
in and after it. Measured on responses that are sampled for it, or on those that a run has stored.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from seethink.core.denials import Span, denial_spans
from seethink.core.errors import UserError
from seethink.core.statistics import clustered, mean_se
from seethink.core.types import Completion, Sample

WINDOW = 8
"""Tokens before and after a statement."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """One response."""

    item: str
    """Its prompt: responses to one prompt are not independent."""
    text: str
    spans: Sequence[Span]
    """Characters of the statements."""
    pictured: bool = True
    """Whether the sample had an image: without one, the statement is true."""
    correct: float = math.nan
    """1, 0, or NaN where there is no grade."""
    tokens: Sequence[str] = ()
    """[T] text of each token, and"""
    entropies: Sequence[float] = ()
    """[T] their entropies in nats; empty where they were not recorded."""


@dataclass(frozen=True, slots=True)
class Number:
    """A mean over responses. The standard error is that over prompts, each the mean of its responses."""

    value: float
    se: float
    n: int
    """Responses."""
    prompts: int


@dataclass(frozen=True, slots=True)
class Finding:
    """One row: all responses, those to an image, or those to a promised and absent one."""

    group: str
    share: Number
    """Of responses with a statement."""
    accuracy_with: Number
    accuracy_without: Number
    difference: float
    """With less without."""
    difference_se: float
    position: Number
    """Where the first statement begins, as a share of the response's characters."""
    entropy: dict[str, Number] = field(default_factory=dict)
    """`before`, `inside`, `after` and `elsewhere`: mean nats per token; empty without recorded entropies."""


def spoken(
    samples: Sequence[Sample], groups: Sequence[Sequence[Completion]], texts: Callable[[Sequence[int]], list[str]]
) -> list[Spoken]:
    """Sampled and graded responses [P][G]; `texts` gives the text of each token."""
    return [
        Spoken(
            item=sample.id,
            text=c.text,
            spans=denial_spans(c.text),
            pictured=bool(sample.images),
            correct=c.reward_parts.get("accuracy", math.nan),
            tokens=texts(c.token_ids),
            entropies=c.entropies,
        )
        for sample, group in zip(samples, groups, strict=True)
        for c in group
    ]


def stored(folder: Path) -> list[Spoken]:
    """The responses in a run's `rollouts/` and `eval/rollouts.jsonl`. Raises UserError where there are none."""
    files = [*sorted((folder / "rollouts").glob("*.jsonl")), folder / "eval" / "rollouts.jsonl"]
    records = [record for path in files if path.is_file() for record in _lines(path)]
    found = [one for record in records for one in _of_record(record)]
    if not found:
        raise UserError(f"{folder} has no stored rollouts; give a run folder with rollouts/, or a model and --data")
    return found


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = json.loads(line)
        except ValueError:
            raise UserError(f"{path}, line {number}: not JSON; remove the line, or the file") from None
        if isinstance(record, dict):
            yield record


def _of_record(record: dict[str, Any]) -> Iterable[Spoken]:
    for completion in record.get("completions") or ():
        verdict, text = completion.get("verdict"), str(completion.get("text", ""))
        yield Spoken(
            item=f"{record.get('step')}/{record.get('id')}",
            text=text,
            # Searched anew: what was stored may come from other patterns.
            spans=denial_spans(text),
            pictured=bool(record.get("images")),
            correct=math.nan if verdict in (None, "error") else float(verdict == "correct"),
            tokens=completion.get("tokens") or (),
            entropies=completion.get("entropies") or (),
        )


def find(responses: Sequence[Spoken], window: int = WINDOW) -> list[Finding]:
    """A row over all responses, and one each for those with an image and without, where there are both."""
    pictured = [r for r in responses if r.pictured]
    absent = [r for r in responses if not r.pictured]
    rows = [("all", responses), ("image", pictured), ("no image", absent)]
    return [_finding(name, some, window) for name, some in rows if some and (name == "all" or (pictured and absent))]


def _finding(group: str, responses: Sequence[Spoken], window: int) -> Finding:
    with_, without = ([r for r in responses if bool(r.spans) is kind] for kind in (True, False))
    right, other = (_number([(r.item, r.correct) for r in some]) for some in (with_, without))
    return Finding(
        group=group,
        share=_number([(r.item, float(bool(r.spans))) for r in responses]),
        accuracy_with=right,
        accuracy_without=other,
        difference=right.value - other.value,
        difference_se=math.hypot(right.se, other.se),
        position=_number([(r.item, r.spans[0][0] / max(1, len(r.text))) for r in with_]),
        entropy=_entropy(with_, window),
    )


def _number(values: Iterable[tuple[str, float]]) -> Number:
    """NaN values are left out."""
    known = [(item, value) for item, value in values if not math.isnan(value)]
    mean = float(np.mean([value for _, value in known])) if known else math.nan
    items = clustered([value for _, value in known], [item for item, _ in known])
    return Number(mean, mean_se(list(items.values()))[1], len(known), len(items))


def _entropy(responses: Sequence[Spoken], window: int) -> dict[str, Number]:
    places: dict[str, list[tuple[str, float]]] = {"before": [], "inside": [], "after": [], "elsewhere": []}
    for one in responses:
        kinds = token_places(one.tokens, one.spans, window)
        for kind, entropy in zip(kinds, one.entropies, strict=False):
            places[kind].append((one.item, entropy))
    return {kind: _number(values) for kind, values in places.items()} if any(places.values()) else {}


def token_places(tokens: Sequence[str], spans: Sequence[Span], window: int) -> list[str]:
    """[T] `inside` for tokens that overlap a statement, `before` and `after` within `window` tokens of one, else
    `elsewhere`. What comes after one statement and before another is `after`."""
    ends = np.cumsum([len(token) for token in tokens])
    starts = ends - [len(token) for token in tokens]
    kinds = ["elsewhere"] * len(tokens)
    inside = [hit for start, end in spans if len(hit := np.flatnonzero((starts < end) & (ends > start)))]
    for hit in inside:
        for place in range(max(0, hit[0] - window), hit[0]):
            kinds[place] = "before"
    for hit in inside:
        for place in range(hit[-1] + 1, min(len(kinds), hit[-1] + 1 + window)):
            kinds[place] = "after"
    for place in (int(place) for hit in inside for place in hit):
        kinds[place] = "inside"
    return kinds


def as_json(findings: Sequence[Finding], about: dict[str, Any]) -> str:
    """The findings with what they were measured on; NaN is null."""
    return json.dumps({**about, "rows": [_plain(asdict(finding)) for finding in findings]}, indent=2) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(findings: Sequence[Finding], label: str) -> Table:
    """For the terminal."""
    shown = Table("responses", title=f"The image cannot be seen, says {escape(label)}")
    for heading in ("n", "share", "accuracy with", "without", "difference", "position", "entropy before / in / after"):
        shown.add_column(heading, justify="right")
    for f in findings:
        around = [f"{f.entropy[kind].value:.2f}" for kind in ("before", "inside", "after") if f.entropy]
        shown.add_row(
            f.group,
            str(f.share.n),
            _percent(f.share.value, f.share.se),
            f"{_percent(f.accuracy_with.value, f.accuracy_with.se)} ({f.accuracy_with.n})",
            f"{_percent(f.accuracy_without.value, f.accuracy_without.se)} ({f.accuracy_without.n})",
            _percent(f.difference, f.difference_se),
            _percent(f.position.value, f.position.se),
            " / ".join(around),
        )
    return shown


def _percent(value: float, se: float) -> str:
    return "" if math.isnan(value) else f"{100 * value:.1f}" + ("" if math.isnan(se) else f" ± {100 * se:.1f}")
