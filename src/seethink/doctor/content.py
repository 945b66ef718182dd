"""What the good rows of a source hold: images, lengths, golds, traces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from seethink.config import Recipe
from seethink.doctor.check import Report, Status, plural
from seethink.doctor.lengths import histogram, quantiles
from seethink.doctor.pictures import Pictures
from seethink.doctor.scan import Scan

BAR = 30
"""Characters of a histogram's longest bar."""


def check_content(report: Report, found: Scan, recipe: Recipe, context: int | None) -> None:
    """`context`: positions that the language model knows."""
    _check_pictures(report, found)
    _check_videos(report, found, recipe)
    _check_lengths(report, found, recipe, context)
    _check_golds(report, found, recipe)
    _check_traces(report, found)


def _check_pictures(report: Report, found: Scan) -> None:
    pictures, label = found.pictures, found.source.label
    if not pictures.count and pictures.frames:
        return
    if not pictures.count:
        advice = "nothing, if it is meant so: vision and connector learn nothing from text"
        report.add(label, "images", Status.WARN, "no row has an image", advice)
        return
    formats = ", ".join(f"{count:,} {name}" for name, count in pictures.formats.most_common(4))
    sizes = f"{_spread(pictures.widths)} x {_spread(pictures.heights)} pixels, the largest has {_millions(pictures)}"
    text_only = f"{100 * found.text_only / found.good:.0f}% of rows are text only"
    said = f"{formats}; {sizes}; {_a_row(pictures)}; {text_only}"
    report.add(label, "images", Status.PASS, said, **picture_facts(found))


def _check_videos(report: Report, found: Scan, recipe: Recipe) -> None:
    pictures, label = found.pictures, found.source.label
    if not pictures.frames:
        return
    seconds = "-".join(f"{value:.3g}" for value in dict.fromkeys(quantiles(pictures.seconds, (0.0, 1.0))))
    said = f"{plural(len(pictures.frames), 'video')} of {seconds} seconds, {_spread(pictures.frames)} frames of each"
    facts: dict[str, Any] = {
        "count": len(pictures.frames),
        "frames": quantiles(pictures.frames),
        "seconds": quantiles(pictures.seconds),
    }
    if recipe.stage != "sft" and recipe.rollout.engine == "vllm":
        report.add(label, "videos", Status.FAIL, f"{said}; vLLM servers are sent none", "sample in process", **facts)
    else:
        report.add(label, "videos", Status.PASS, said, **facts)


def _spread(values: Sequence[int]) -> str:
    """`56`, or `120-448 (median 320)`."""
    low, middle, high = quantiles(values, (0.0, 0.5, 1.0))
    return f"{low:.0f}" if low == high else f"{low:.0f}-{high:.0f} (median {middle:.0f})"


def _a_row(pictures: Pictures) -> str:
    """`1 a row`, or `1 in 600 rows, 2 in 40 rows`."""
    counts = sorted((n, count) for n, count in pictures.per_sample.items() if n)
    if len(counts) == 1:
        return f"{counts[0][0]} a row"
    return ", ".join(f"{n} in {plural(count, 'row')}" for n, count in counts[:5])


def _millions(pictures: Pictures) -> str:
    return f"{pictures.most_pixels / 1e6:.3g} megapixels"


def _check_lengths(report: Report, found: Scan, recipe: Recipe, context: int | None) -> None:
    label, lengths = found.source.label, found.lengths
    if not lengths.prompts:
        report.add(label, "prompt lengths", Status.SKIP, "not measured without a working processor")
        return
    counts = histogram(lengths.prompts)
    middle = "/".join(f"{value:.0f}" for value in quantiles(lengths.prompts))
    share = 100 * lengths.image_tokens / max(sum(lengths.prompts), 1)
    media = "images and videos" if found.pictures.frames else "images"
    said = f"{middle} tokens (least/median/95%/most), {share:.0f}% of them for {media}"
    report.add(label, "prompt lengths", Status.PASS, said, histogram=counts)
    report.tables.append(histogram_table(f"Prompt tokens of {label}, images included", counts))
    if context is not None:
        _check_context(report, found, recipe, context)


def _check_context(report: Report, found: Scan, recipe: Recipe, context: int) -> None:
    label, lengths, sft = found.source.label, found.lengths, recipe.stage == "sft"
    evaluated = label == "eval.data"
    if sft and not evaluated:
        _check_traces_fit(report, found, recipe, context)
        return
    response, key = _response_limit(recipe, evaluated)
    longer = lengths.over(context - response)
    if longer:
        said = f"{plural(longer, 'prompt')} + {key} = {response:,} exceed the model's {context:,} positions"
        room = context - response
        advice = f"set data.max_prompt_tokens={room}, or lower {key}" if room > 0 else f"lower {key}"
        report.add(label, "prompt + response", Status.WARN if room > 0 else Status.FAIL, said, advice)
    else:
        said = f"{lengths.longest + response:,} tokens at most, of the model's {context:,} positions"
        report.add(label, "prompt + response", Status.PASS, said)


def _response_limit(recipe: Recipe, evaluated: bool) -> tuple[int, str]:
    if evaluated:
        return recipe.eval.max_new_tokens, "eval.max_new_tokens"
    schedule = [length for _, length in recipe.rollout.length_schedule]
    if max(schedule, default=0) > recipe.rollout.max_new_tokens:
        return max(schedule), "rollout.length_schedule"
    return recipe.rollout.max_new_tokens, "rollout.max_new_tokens"


def _check_traces_fit(report: Report, found: Scan, recipe: Recipe, context: int) -> None:
    lengths, limit = found.lengths, min(recipe.sft.max_length, context)
    whole = [p + r for p, r in zip(lengths.prompts, lengths.responses, strict=False)]
    over = sum(length > limit for length in whole)
    own = limit == recipe.sft.max_length
    name = f"sft.max_length={limit:,}" if own else f"the model's {limit:,} positions"
    if over:
        status = Status.FAIL if over == len(whole) else Status.WARN
        said = f"{over:,} of {len(whole):,} samples are longer than {name} and would be dropped"
        advice = "raise sft.max_length, or shorten the traces" if own else "shorten the traces"
        report.add(found.source.label, "prompt + response", status, said, advice)
    elif whole:
        said = f"{max(whole):,} tokens at most, of {name}"
        report.add(found.source.label, "prompt + response", Status.PASS, said)


def histogram_table(title: str, counts: Sequence[tuple[str, int]]) -> Group:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(justify="right")
    table.add_column()
    table.add_column(justify="right")
    most = max(count for _, count in counts)
    for name, count in counts:
        table.add_row(name, Text("█" * max(round(BAR * count / most), count > 0), style="cyan"), f"{count:,}")
    return Group(Text(title, style="italic"), table, Text())


def _check_golds(report: Report, found: Scan, recipe: Recipe) -> None:
    golds, label = found.golds, found.source.label
    for error in dict.fromkeys(golds.errors[:2]):
        advice = "make reward.function return a Grade or a number for every response, the empty one included"
        report.add(label, "golds", Status.FAIL, f"the grader raised {error}", advice)
    if not golds.graded:
        return
    limit = found.source.reading.max_bad_share
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in golds.kinds.most_common())
    if golds.ungradable:
        first = golds.ungradable[0]
        many = len(golds.ungradable) > limit * golds.graded and recipe.reward.function is None
        said = (
            f"{len(golds.ungradable):,} of {golds.graded:,} golds are not right against themselves, first "
            f"{Path(first.file).name}, row {first.row}: {first.answer[:60]!r} ({first.detail[:160]})"
        )
        advice = "write these golds plainly, or drop the rows: no response to them could ever be rewarded"
        rows = [asdict(gold) for gold in golds.ungradable]
        report.add(label, "golds", Status.FAIL if many else Status.WARN, said, advice, rows=rows)
    else:
        report.add(label, "golds", Status.PASS, f"{kinds}; each is right against itself", kinds=dict(golds.kinds))
    if golds.long and recipe.reward.function is None and recipe.reward.verifier is None:
        first = golds.long[0]
        said = f"{plural(len(golds.long), 'gold')} of many words, first {Path(first.file).name}, row {first.row}"
        advice = "give the answer alone: a response is right where it states all of it"
        report.add(label, "long golds", Status.WARN, said, advice, rows=[asdict(gold) for gold in golds.long])
    if golds.rewarded_empty:
        first = golds.rewarded_empty[0]
        said = f"{len(golds.rewarded_empty):,} golds are matched by an empty response, first row {first.row}"
        advice = "correct the grader or the golds: a policy learns to say nothing"
        report.add(label, "empty response", Status.FAIL, said, advice, rows=[asdict(g) for g in golds.rewarded_empty])


def _check_traces(report: Report, found: Scan) -> None:
    golds, label = found.golds, found.source.label
    if found.source.traces is None or golds.errors:
        return
    if not golds.traces:
        advice = "give each row a 'response' (a whole assistant turn), or use a source with traces"
        report.add(label, "traces", Status.FAIL, "no row has a response to imitate", advice)
        return
    reasons = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in golds.dropped_traces.most_common())
    said = f"{golds.kept_traces:,} of {golds.traces:,} pass the filters of [sft]" + (
        f"; not: {reasons}" * bool(reasons)
    )
    advice = "look at the dropped ones; require_think, max_response_tokens and max_repetition of [sft] are the filters"
    few = golds.kept_traces < golds.traces / 2
    status = Status.FAIL if not golds.kept_traces else Status.WARN if few else Status.PASS
    report.add(
        label, "traces", status, said, "" if status is Status.PASS else advice, dropped=dict(golds.dropped_traces)
    )


def picture_facts(found: Scan) -> dict[str, Any]:
    pictures = found.pictures
    return {
        "count": pictures.count,
        "formats": dict(pictures.formats),
        "widths": quantiles(pictures.widths),
        "heights": quantiles(pictures.heights),
        "largest_megapixels": pictures.most_pixels / 1e6,
        "per_row": {str(n): count for n, count in pictures.per_sample.items()},
        "text_only_share": found.text_only / found.good if found.good else None,
    }
