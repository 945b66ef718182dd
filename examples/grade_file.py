"""Grade a JSONL file of responses as the reward grades them.

    python examples/grade_file.py [CASES.jsonl]

A line has `prediction` and `gold`, optionally `answer_type`, `choices`, and `expected`: a person's verdict, with which
the grader is itself measured. Without a file, the cases below are graded.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from seethink import grade_file

CASES = [
    {"prediction": "<think>3 + 4</think> The answer is 7.", "gold": "7", "expected": True},
    {"prediction": r"So x = \boxed{\frac{1}{2}}.", "gold": "0.5", "expected": True},
    {"prediction": "It is (B).", "gold": "B", "choices": ["a cat", "a dog"], "expected": True},
    {"prediction": r"\boxed{[2, 5)}", "gold": "[2, 5]", "answer_type": "interval_set", "expected": False},
    {"prediction": "I cannot say.", "gold": "12", "expected": False},
]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        cases, out = Path(folder) / "cases.jsonl", Path(folder) / "verdicts.jsonl"
        if len(sys.argv) > 1:
            cases = Path(sys.argv[1])
        else:
            cases.write_text("".join(json.dumps(case) + "\n" for case in CASES), encoding="utf-8")
        summary = grade_file(cases, out)
        for line in out.read_text(encoding="utf-8").splitlines():
            verdict = json.loads(line)
            print(f"{verdict['id']}: {verdict['verdict']} ({verdict['reason']})")
    print(f"{summary.cases} cases: {summary.verdicts}")
    if summary.overall.total:
        print(f"as a person judged: {summary.overall.right} of {summary.overall.total}")


if __name__ == "__main__":
    main()
