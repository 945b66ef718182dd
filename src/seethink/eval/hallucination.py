"""How often responses say that the image cannot be seen, and how such responses differ from the others (paper 6.4).

For each group of responses: the share that says so, accuracy with and without such a statement, where in the response
it stands, and the entropy before, in and after it.
"""

from __future__ import annotations

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
from seethink.runs.reading import require_lines

WINDOW = 8
"""Tokens before and after a statement."""


@dataclass(frozen=True, slots=True)
class CheckedResponse:
    """One response, and the statements in it that the image cannot be seen."""

    item: str
    """The prompt that it answers: responses to one prompt are not independent."""
    text: str
    spans: Sequence[Span]
    """[start, end) characters of each statement."""
    pictured: bool = True
    """Whether the sample had an image: without one, the statement is true."""
    correct: float = math.nan
    """1, 0, or NaN where there is no grade."""
    tokens: Sequence[str] = ()
    """[T] The text of each token."""
    entropies: Sequence[float] = ()
    """[T] Nats; empty where they were not recorded."""


@dataclass(frozen=True, slots=True)
class Number:
    """A mean over responses. The standard error is over prompts, each the mean of its responses."""

    value: float
    se: float
    n: int
    """Responses."""
    prompts: int


@dataclass(frozen=True, slots=True)
class Finding:
    """One row: all responses, the ones to an image, or the ones to a promised image that was absent."""

    group: str
    share: Number
    """Of responses with a statement."""
    accuracy_with: Number
    accuracy_without: Number
    difference: float
    """Accuracy with a statement less accuracy without."""
    difference_se: float
    position: Number
    """Where the first statement begins, as a share of the response's characters."""
    entropy: dict[str, Number] = field(default_factory=dict)
    """`before`, `inside`, `after` and `elsewhere`: mean nats per token; empty without recorded entropies."""


def check_completions(
    samples: Sequence[Sample], groups: Sequence[Sequence[Completion]], texts: Callable[[Sequence[int]], list[str]]
) -> list[CheckedResponse]:
    """Search graded responses [P][G] for statements; `texts` gives the text of each token."""
    return [
        CheckedResponse(
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


def stored_responses(folder: Path) -> list[CheckedResponse]:
    """The responses in a run's `rollouts/` and `eval/rollouts.jsonl`. Raises UserError where there are none."""
    files = [*sorted((folder / "rollouts").glob("*.jsonl")), folder / "eval" / "rollouts.jsonl"]
    records = [record for path in files if path.is_file() for _, record in require_lines(path)]
    found = [one for record in records for one in _of_record(record)]
    if not found:
        raise UserError(f"{folder} has no stored rollouts; give a run folder with rollouts/, or a model and --data")
    return found


def _of_record(record: dict[str, Any]) -> Iterable[CheckedResponse]:
    for completion in record.get("completions") or ():
        verdict, text = completion.get("verdict"), str(completion.get("text", ""))
        yield CheckedResponse(
            item=f"{record.get('step')}/{record.get('id')}",
            text=text,
            # The stored spans may come from an earlier version of the patterns.
            spans=denial_spans(text),
            pictured=bool(record.get("images")),
            correct=math.nan if verdict in (None, "error") else float(verdict == "correct"),
            tokens=completion.get("tokens") or (),
            entropies=completion.get("entropies") or (),
        )


def compare_denials(responses: Sequence[CheckedResponse], window: int = WINDOW) -> list[Finding]:
    """A row over all responses, and where some had an image and some had none, a row for each of the two kinds."""
    pictured = [r for r in responses if r.pictured]
    absent = [r for r in responses if not r.pictured]
    rows = [("all", responses), ("image", pictured), ("no image", absent)]
    return [_finding(name, some, window) for name, some in rows if some and (name == "all" or (pictured and absent))]


def _finding(group: str, responses: Sequence[CheckedResponse], window: int) -> Finding:
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
    """From (prompt, value) pairs; NaN values are left out."""
    known = [(item, value) for item, value in values if not math.isnan(value)]
    mean = float(np.mean([value for _, value in known])) if known else math.nan
    items = clustered([value for _, value in known], [item for item, _ in known])
    return Number(mean, mean_se(list(items.values()))[1], len(known), len(items))


def _entropy(responses: Sequence[CheckedResponse], window: int) -> dict[str, Number]:
    places: dict[str, list[tuple[str, float]]] = {"before": [], "inside": [], "after": [], "elsewhere": []}
    for one in responses:
        kinds = token_places(one.tokens, one.spans, window)
        for kind, entropy in zip(kinds, one.entropies, strict=False):
            places[kind].append((one.item, entropy))
    return {kind: _number(values) for kind, values in places.items()} if any(places.values()) else {}


def token_places(tokens: Sequence[str], spans: Sequence[Span], window: int) -> list[str]:
    """[T] Where each token stands: `inside` a statement, `before` or `after` one within `window` tokens, `elsewhere`.

    A token between two statements that is near both counts as `after`.
    """
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


def as_record(findings: Sequence[Finding], about: dict[str, Any]) -> dict[str, Any]:
    """The findings as a table for JSON, with `about`: what they were measured on."""
    return {**about, "rows": [asdict(finding) for finding in findings]}


def denial_table(findings: Sequence[Finding], label: str) -> Table:
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
