"""The same question or the same image twice: within the training data, and across what must be kept apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seethink.config import Recipe
from seethink.data.order import held_out, whole_questions
from seethink.doctor.check import Report, Status, plural
from seethink.doctor.scan import Scan
from seethink.train.hooks.blindness import IN_DOUBT
from seethink.world.make import is_world

Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Shared:
    """Rows of held-out data that training also has."""

    questions: list[tuple[Place, Place]]
    """(held-out row, training row) with the same question about the same images."""
    images: list[tuple[Place, Place]]
    """The same image under another question."""
    held_out: int


def repeated(scan: Scan, rows: Sequence[int]) -> tuple[list[tuple[Place, Place]], list[tuple[Place, Place]]]:
    """(repeats, contradictions) among some rows: the same question and images with the same or another answer."""
    first: dict[int, int] = {}
    same: list[tuple[Place, Place]] = []
    contrary: list[tuple[Place, Place]] = []
    for i in rows:
        before = first.setdefault(scan.questions[i], i)
        if before != i:
            found = same if scan.answers[i] == scan.answers[before] else contrary
            found.append((scan.places[i], scan.places[before]))
    return same, contrary


def shared(train: Scan, train_rows: Sequence[int], held: Scan, held_rows: Sequence[int]) -> Shared:
    questions = {train.questions[i]: i for i in reversed(train_rows)}
    images = {image: i for i in reversed(train_rows) for image in train.image_hashes[i]}
    same: list[tuple[Place, Place]] = []
    pictures: list[tuple[Place, Place]] = []
    for i in held_rows:
        if held.questions[i] in questions:
            same.append((held.places[i], train.places[questions[held.questions[i]]]))
            continue
        twin = next((images[image] for image in held.image_hashes[i] if image in images), None)
        if twin is not None:
            pictures.append((held.places[i], train.places[twin]))
    return Shared(same, pictures, len(held_rows))


def held_back(recipe: Recipe, train: Scan) -> list[int]:
    """Rows of the training source that a run without data.val keeps from training, as train/sft.py and
    train/hooks/blindness.py choose them."""
    data = recipe.data
    if data.val is not None or is_world(data.train) or not train.good:
        return []
    if recipe.stage == "sft":
        return held_out(train.questions, data.val_size or max(1, train.good // 20))
    if recipe.blindness.every == 0:
        return []
    with_images = [i for i, images in enumerate(train.image_hashes) if images]
    most = data.val_size or min(IN_DOUBT * recipe.blindness.samples, train.good // 10)
    return whole_questions(train.questions, with_images, most)


# --- the checks


def check_repeats(report: Report, recipe: Recipe, scans: dict[str, Scan]) -> None:
    train = scans["data.train"]
    if not train.good:
        return
    held = held_back(recipe, train)
    held_set = set(held)
    learned = [i for i in range(train.good) if i not in held_set]
    _check_within(report, train, learned)
    for label in ("data.val", "eval.data"):
        if label in scans and scans[label].good:
            _check_apart(report, train, learned, scans[label], range(scans[label].good), label)
    if held:
        _check_apart(report, train, learned, train, held, f"the first rows of {train.source.label}, held out")


def _check_within(report: Report, train: Scan, rows: Sequence[int]) -> None:
    label = train.source.label
    same, contrary = repeated(train, rows)
    twice = [name for name, count in train.ids.items() if count > 1]
    if contrary:
        said = (
            f"{plural(len(contrary), 'row')} ask a question again that has another answer elsewhere: {_pair(contrary)}"
        )
        report.add(label, "contradictions", Status.WARN, said, "one of the two answers is wrong: correct or drop it",
                   rows=contrary)  # fmt: skip
    if same:
        said = f"{plural(len(same), 'row')} repeat an earlier question and its images: {_pair(same)}"
        report.add(label, "repeats", Status.WARN, said, "drop the repeats, unless they are meant to weigh more",
                   rows=same)  # fmt: skip
    if twice:
        said = f"{plural(len(twice), 'id')} used more than once, first {twice[0][:60]!r}"
        advice = "give each row an id of its own: rollouts and reports name rows by it"
        report.add(label, "ids", Status.WARN, said, advice, ids=twice[:1000])
    if not same and not contrary and not twice:
        report.add(label, "repeats", Status.PASS, "no question with the same images twice, no id twice")


def _check_apart(
    report: Report, train: Scan, learned: Sequence[int], held: Scan, rows: Sequence[int], label: str
) -> None:
    """Held-out rows that training has seen make a score worthless."""
    found = shared(train, learned, held, rows)
    limit = held.source.reading.max_bad_share
    section = held.source.label
    if found.questions:
        status = Status.FAIL if len(found.questions) > limit * found.held_out else Status.WARN
        said = f"{len(found.questions):,} of {found.held_out:,} rows of {label} are also trained on: "
        advice = "drop them from the training data: their score says nothing"
        report.add(section, "also in training", status, said + _pair(found.questions), advice, rows=found.questions)
    if found.images:
        said = f"{len(found.images):,} of {found.held_out:,} rows of {label} show an image that is trained on: "
        advice = "split by image if the score is to be about unseen ones"
        report.add(section, "images in training", Status.WARN, said + _pair(found.images), advice, rows=found.images)
    if not found.questions and not found.images:
        report.add(section, "kept apart", Status.PASS, f"{label}: no question or image is also trained on")


def _pair(pairs: Sequence[tuple[Place, Place]]) -> str:
    (file, row), (other, before) = pairs[0]
    first = f"{Path(file).name}, row {row}, is {Path(other).name}, row {before}"
    return first + (f" (and {len(pairs) - 1:,} more)" if len(pairs) > 1 else "")
