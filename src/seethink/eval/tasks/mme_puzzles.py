"""Solutions of MME-Reasoning's puzzles, checked by the puzzles' own rules: any valid solution is right.

Nothing that a model wrote is run: values are read as JSON, formulas by a grammar of + - * / and brackets. A value of
the wrong kind makes a solution invalid.
"""

from __future__ import annotations

import ast
import json
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

Grid = list[list[Any]]

_MAX_NODES = 60
_OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip


class _Figure:
    """A figure of letters: which values they take, and lines of letters that have one sum."""

    def __init__(self, values: Sequence[int] | None, total: int, lines: str, letters: str = "") -> None:
        self.lines = lines.split()
        self.values, self.total = values, total
        self.letters = letters or "".join(sorted(set("".join(self.lines))))

    def solved(self, found: Mapping[str, Any]) -> bool:
        try:
            numbers = {letter: _whole(found[letter]) for letter in self.letters}
        except KeyError:
            return False
        if self.values is not None and sorted(numbers.values()) != sorted(self.values):
            return False
        return all(sum(numbers[letter] for letter in line) == self.total for line in self.lines)


_FIGURES = {
    "2": _Figure(None, 25, "ABC CEF ADF"),
    "3": _Figure(range(1, 16), 30, "ADEH CEGH IGJH NMJH OMHL KLHF BFHD"),
    "4": _Figure(range(1, 10), 20, "ABED BCEF DEGH EFHI BDHF ACIG"),
    "6": _Figure(range(1, 20), 30, "AJS CJQ EJO GJM IJK LJH NJF PJD RJB"),
    "7": _Figure(range(1, 13), 26, "ACFH ADGK BCDE HIJK BFIL EGJL"),
    "9": _Figure(range(1, 20), 22, "ABC ADH AEJ CFJ CGL HIJ HMQ JKL JNQ JOS LPS QRS"),
}


def _targets(found: Mapping[str, Any]) -> bool:
    """Rings of 20, 15, 10 and 5 points on lines of 55; so many of each are at hand."""
    figure = _Figure(None, 55, "ABC AGO OPQ CKQ ADINQ CFILO BEIMP GHIJK", "ABCDEFGHIJKLMNOPQ")
    values = [_whole(found.get(letter)) for letter in figure.letters]
    most = {20: 5, 15: 3, 10: 3, 5: 6}
    return all(values.count(v) <= n for v, n in most.items()) and set(values) <= set(most) and figure.solved(found)


def _distinct_20(found: Mapping[str, Any]) -> bool:
    figure = _Figure(None, 20, "ABC AFK BDE BEH CHM DGJ EGI FIL HJI KLM")
    values = [_whole(found.get(letter)) for letter in figure.letters]
    return len(set(values)) == len(values) and all(1 <= v <= 15 for v in values) and figure.solved(found)


def _equal_sides(found: Mapping[str, Any]) -> bool:
    values = {letter: _whole(found.get(letter)) for letter in "ABCDEF"}
    sums = {sum(values[letter] for letter in line) for line in ("ABD", "DEF", "ACF")}
    return sorted(values.values()) == list(range(1, 7)) and len(sums) == 1


def _nineteen(found: Mapping[str, Any]) -> bool:
    v = {letter: _whole(found.get(letter)) for letter in "ABCDEFG"}
    sums = {v["A"] + v["C"] + 9, v["B"] + v["C"] + v["D"], v["F"] + v["E"] + v["D"], v["E"] + v["G"] + 6}
    return set(v.values()) == {1, 2, 3, 5, 7, 8} and sums == {19}


def _ratios(found: Mapping[str, Any]) -> bool:
    a, b, c = (Fraction(str(found.get(letter))) for letter in "ABC")
    return b != 0 and a == 3 * b and c == 2 * b


def _cats_and_dogs(found: Mapping[str, Any]) -> bool:
    v = {letter: _whole(found.get(letter)) for letter in "CATDOGPES"}
    cat, dog, pets = (int("".join(str(v[letter]) for letter in word)) for word in ("CAT", "DOG", "PETS"))
    return all(0 <= digit <= 9 for digit in v.values()) and cat + dog == pets


LETTERS: dict[str, Callable[[Mapping[str, Any]], bool]] = {
    "1": _ratios, "5": _targets, "8": _distinct_20, "10": _equal_sides, "11": _nineteen, "12": _cats_and_dogs,
    **{name: figure.solved for name, figure in _FIGURES.items()},
}  # fmt: skip
"""By the number at the end of `calculate_answer_function_N`."""


def sudoku(found: Any, special: Mapping[str, Any]) -> bool:
    """Rows, columns and blocks hold each number once; given cells are kept. Sizes 4 (2 x 2 blocks) and 6 (2 x 3)."""
    grid = _grid(found, special)
    size, wide = len(grid), 2 if len(grid) == 4 else 3
    blocks = [
        [grid[r + i][c + j] for i in range(2) for j in range(wide)]
        for r in range(0, size, 2)
        for c in range(0, size, wide)
    ]
    lines = [*grid, *_columns(grid), *blocks]
    return size in (4, 6) and all(sorted(line) == list(range(1, size + 1)) for line in lines)


def skyscraper(found: Any, special: Mapping[str, Any]) -> bool:
    """Heights differ in rows and columns, and as many towers are seen from each side (top, left, right, bottom)."""
    grid = _grid(found, special)
    columns = _columns(grid)
    lines = [columns, grid, [row[::-1] for row in grid], [column[::-1] for column in columns]]
    seen = zip(lines, special["visible_skyscrapers"], strict=True)
    latin = all(len(set(line)) == len(grid) for line in [*grid, *columns])
    return latin and all(
        wanted is None or _seen(line) == wanted
        for side, counts in seen
        for line, wanted in zip(side, counts, strict=True)
    )


def _seen(heights: Sequence[int]) -> int:
    return sum(height > max(heights[:place], default=0) for place, height in enumerate(heights))


def yinyang(found: Any, special: Mapping[str, Any]) -> bool:
    """The cells of each colour (0, 1) hang together, and no 2 x 2 block is of one colour."""
    grid = _grid(found, special)
    size = len(grid)
    squares = [
        {grid[r][c], grid[r][c + 1], grid[r + 1][c], grid[r + 1][c + 1]}
        for r in range(size - 1)
        for c in range(size - 1)
    ]
    colours = {cell for row in grid for cell in row}
    return colours <= {0, 1} and all(len(s) == 2 for s in squares) and all(_connected(grid, c) for c in (0, 1))


def _connected(grid: Grid, colour: int) -> bool:
    cells = {(r, c) for r, row in enumerate(grid) for c, cell in enumerate(row) if cell == colour}
    edge = [min(cells)] if cells else []
    while edge:
        r, c = edge.pop()
        if (r, c) in cells:
            cells.remove((r, c))
            edge += [(r + 1, c), (r - 1, c), (r, c + 1), (r, c - 1)]
    return not cells


def hashi(found: Any, special: Mapping[str, Any]) -> bool:
    """Bridges are straight, at most two between a pair, cross nothing, and each island has as many as it asks for."""
    wanted = {_island(one["cord"]): int(one["requirement"]) for one in special["init_islands"]}
    pairs: dict[tuple[tuple[int, int], tuple[int, int]], int] = {}
    for bridge in found:
        start, end = sorted((_island(bridge["start"]), _island(bridge["end"])))
        if start == end or not (start in wanted and end in wanted) or (start[0] != end[0] and start[1] != end[1]):
            return False
        pairs[start, end] = pairs.get((start, end), 0) + _whole(bridge["number"])
    if any(not 1 <= number <= 2 for number in pairs.values()):
        return False
    counts = dict.fromkeys(wanted, 0)
    crossed: set[tuple[int, int]] = set()
    for (start, end), number in pairs.items():
        counts[start] += number
        counts[end] += number
        between = [place for place in _line(start, end) if place not in (start, end)]
        if crossed.intersection(between) or set(wanted).intersection(between):
            return False
        crossed.update(between)
    return counts == wanted


def _island(name: str) -> tuple[int, int]:
    match = re.fullmatch(r"([a-z])(\d{1,3})", str(name).strip().lower())
    if match is None:
        raise ValueError(f"not an island: {name!r}")
    return ord(match[1]) - ord("a"), int(match[2])


def _line(start: tuple[int, int], end: tuple[int, int]) -> list[tuple[int, int]]:
    return [(x, y) for x in range(start[0], end[0] + 1) for y in range(start[1], end[1] + 1)]


def points24(formula: str, special: Mapping[str, Any]) -> bool:
    """A formula of the four cards, each used once, that makes 24."""
    text = formula.split("=")[0].translate(str.maketrans("×÷−[]", "*/-()"))
    text = text.replace("\\times", "*").replace("\\div", "/").strip(" $")
    if len(text) > 100:
        return False
    tree = ast.parse(text, mode="eval")
    cards: list[int] = []
    value = _value(tree.body, cards)
    return value == 24 and sorted(cards) == sorted(int(card) for card in special["init_cards"])


def _value(node: ast.AST, cards: list[int]) -> Fraction:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        cards.append(node.value)
        return Fraction(node.value)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS and len(cards) < _MAX_NODES:
        return _OPERATORS[type(node.op)](_value(node.left, cards), _value(node.right, cards))
    raise ValueError("not a formula of + - * /")


def _grid(found: Any, special: Mapping[str, Any]) -> Grid:
    """A square of whole numbers in which the given cells are kept. Raises ValueError."""
    base = special["base_matrix"]
    size = len(base)
    if not isinstance(found, list) or len(found) != size or any(len(row) != size for row in found):
        raise ValueError("not a square of the puzzle's size")
    grid = [[_whole(cell) for cell in row] for row in found]
    for own, given in zip(grid, base, strict=True):
        if any(wanted is not None and wanted != cell for cell, wanted in zip(own, given, strict=True)):
            raise ValueError("a given cell was changed")
    return grid


def _columns(grid: Grid) -> Grid:
    return [list(column) for column in zip(*grid, strict=True)]


def _whole(value: Any) -> int:
    """A whole number, as such or as text. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | str) or len(str(value)) > 9:
        raise ValueError(f"not a whole number: {value!r:.40}")
    return int(value)


GRIDS: dict[str, Callable[[Any, Mapping[str, Any]], bool]] = {
    "sudoku_4": sudoku, "sudoku_6": sudoku, "skyscraper": skyscraper, "yinyang": yinyang, "hashi": hashi,
}  # fmt: skip
"""By the end of `calculate_answer_function_...`."""


def last_json(text: str) -> Any:
    """The last object or list that a text holds as JSON; None where there is none."""
    decoder = json.JSONDecoder()
    found, at = None, 0
    for _ in range(1000):
        start = re.compile(r"[\[{]").search(text, at)
        if start is None:
            break
        try:
            found, at = decoder.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            at = start.start() + 1
    return found


def assignments(text: str) -> dict[str, str]:
    """Values that a text gives to letters, the last one of each: `A = 3, B: 1`."""
    return dict(re.findall(r"(?<![A-Za-z])([A-S])\s{0,3}(?:=|:|：)\s{0,3}(-?\d{1,6}(?:\.\d{1,6})?)(?![\d/])", text))
