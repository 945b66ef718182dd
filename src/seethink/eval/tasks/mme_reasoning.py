"""MME-Reasoning: 1,188 questions of inductive, deductive and abductive reasoning; choice, open, and puzzles."""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from typing import Any

from seethink.core.types import Grade, Verdict
from seethink.eval.bench import chance
from seethink.eval.bench.benchmark import Benchmark, Item
from seethink.eval.bench.composite import by_item
from seethink.eval.bench.grading import by_rule
from seethink.eval.bench.prompts import as_list, place_images
from seethink.eval.bench.published import of_authors
from seethink.eval.bench.rows import Row
from seethink.eval.bench.sources import Source
from seethink.eval.tasks import mme_puzzles as puzzles
from seethink.rewards.grader.extract import extract

_CALCULATE = "calculate_answer_function_"
_INVALID = (ValueError, TypeError, KeyError, IndexError, AttributeError, ZeroDivisionError, SyntaxError,
            RecursionError, MemoryError)  # fmt: skip


def _item(row: Row) -> Item | None:
    columns = [name for name in ("images", "image") if row.get(name) is not None] or ["image"]
    text, placed = place_images(row.text("question"), dict(enumerate(row.images(columns[0]), start=1)))
    kind, function = row.text("question_type").lower(), row.text("function_id", "")
    answer = row.text("answer", "")
    if kind == "choice" and not function:
        answer = ", ".join(as_list(answer)).upper()
    meta = {"type": kind, "function": function, "special": row.text("special_info", ""),
            "capability": row.text("capability", "")}  # fmt: skip
    options = 4 if kind == "choice" else 0
    category = row.text("reasoning_type", "all")
    return Item(row.text("index"), text, answer, placed, options=options, category=category, meta=meta)


def _grade(pairs: Sequence[tuple[Item, str]]) -> list[Grade]:
    """Puzzles by their rules, all other questions by the grader of the rewards."""
    is_puzzle = [item.meta["function"] not in ("", "open_function", "choice_function") for item, _ in pairs]
    others = iter(by_rule([pair for pair, puzzle in zip(pairs, is_puzzle, strict=True) if not puzzle]))
    return [_puzzle(*pair) if puzzle else next(others) for pair, puzzle in zip(pairs, is_puzzle, strict=True)]


def _puzzle(item: Item, text: str) -> Grade:
    statement = extract(text)
    if statement is None:
        return Grade(Verdict.NO_ANSWER, None, "no answer is stated")
    said = statement.text
    function = str(item.meta["function"])
    name = function.removeprefix(_CALCULATE)
    found: Any = puzzles.last_json(text)
    if name in puzzles.LETTERS and not isinstance(found, dict):
        found = puzzles.assignments(text) or None
    if function == "judge_24points_function":
        found = said
    if found is None:
        return Grade(Verdict.NO_ANSWER, said[:400], "no solution is stated as JSON")
    try:
        right = solved(function, found, literal(item.gold), literal(str(item.meta["special"])))
    except _INVALID as error:
        return Grade(Verdict.WRONG, said[:400], f"{name}: not a solution: {error}"[:400])
    return Grade(Verdict.CORRECT if right else Verdict.WRONG, said[:400], f"{name}: by the puzzle's rules")


def solved(function: str, found: Any, answer: Any, special: Any) -> bool:
    """Whether `found` solves a puzzle, or matches one of its answers. Raises what the values' kinds make it raise."""
    name = function.removeprefix(_CALCULATE)
    if name in puzzles.LETTERS:
        return puzzles.LETTERS[name](found)
    if name in puzzles.GRIDS:
        return puzzles.GRIDS[name](found, special)
    if function == "judge_24points_function":
        return puzzles.points24(found, special)
    if function == "match_coordinate_function":
        return _cells(found) == _cells(answer)
    if function == "multiple_match_function":
        (own,) = found.values()
        return any(_plain(own) == _plain(one) for one in answer)
    if function == "compare_expression_function":
        return any(_equation(found["equation"]) == _equation(one) for one in answer)
    if function == "match_answer_function":
        return all(key in found and _plain(found[key]) == _plain(value) for key, value in answer.items())
    raise ValueError(f"no rules are known for {function!r}")


def _cells(cells: Any) -> list[tuple[str, str]]:
    return [(str(cell["row"]), str(cell["column"])) for cell in ([cells] if isinstance(cells, dict) else cells)]


def _plain(value: Any) -> Any:
    """Lists are sets, as the benchmark compares them; texts without case and space."""
    if isinstance(value, list | tuple):
        return frozenset(map(_plain, value))
    return value.strip().lower() if isinstance(value, str) else value


def _equation(text: str) -> str:
    """The left side, the operands of one operation in order of their texts."""
    tree = ast.parse(str(text).split("=")[0].strip().replace("×", "*").replace("÷", "/"), mode="eval").body
    operation = type(tree.op) if isinstance(tree, ast.BinOp) else None
    if operation in (ast.Add, ast.Mult):
        return f"{operation.__name__}:{sorted(ast.dump(part) for part in _operands(tree, operation))}"
    return ast.dump(tree)


def _operands(node: ast.expr, operation: type) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, operation):
        return _operands(node.left, operation) + _operands(node.right, operation)
    return [node]


def literal(text: str) -> Any:
    """A value that the data write as JSON or as Python does; None for an empty text. Raises ValueError."""
    if not text or len(text) > 100_000:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return ast.literal_eval(text)


MME_REASONING = Benchmark(
    name="mme-reasoning",
    title="MME-Reasoning",
    version="1",
    sources=(
        Source(kind="tsv", name="MMEReasoning", read=_item),
        Source(kind="tsv", name="MME_Reasoning", read=_item),
        Source(kind="hub", name="U4R/MME-Reasoning", read=_item),
    ),
    expect={"": 1188},
    prompt="the bare question",
    grade=_grade,
    score=by_item,
    chance=chance.uniform,
    paper=42.8,
    peers=of_authors(35.2, 32.1, 34.1, 34.1, 30.2),
    licence="unknown",
    notes=(
        "The benchmark has a language model extract every answer; here the rules read it, and puzzle solutions must be "
        "stated as JSON or as letters with values. Puzzles are checked by their rules: any valid solution is right."
    ),
)
