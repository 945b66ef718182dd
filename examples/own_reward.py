"""A reward of one's own: a whole number that is off by one is still good enough.

    python examples/own_reward.py --model nano

Training uses the same function, found from the folder that holds this file:

    PYTHONPATH=examples seethink train recipes/nano-grpo.toml reward.function=own_reward:off_by_one
"""

from __future__ import annotations

import argparse
from dataclasses import replace

from seethink import Grade, RewardConfig, Rewarder, Sample, Verdict, generate, grade, load_model, load_samples


def off_by_one(response: str, sample: Sample) -> Grade:
    """The rule grader's verdict, but a whole number next to the gold one is correct too.

    A reward function takes (response, sample) and returns a Grade. The verdict decides the accuracy part of the reward;
    `Verdict.ERROR` leaves the response out of the update instead of counting it as wrong.
    """
    found = grade(response, sample.answer, sample.answer_type, sample.choices)
    stated, gold = (found.extracted or "").rstrip("."), sample.answer
    whole = stated.isdecimal() and gold.isdecimal()
    if found.verdict is Verdict.WRONG and whole and abs(int(stated) - int(gold)) == 1:
        return replace(found, verdict=Verdict.CORRECT, reason=f"off by one: {stated}, gold {gold}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="nano", help="nano, a checkpoint folder, or a hub name")
    parser.add_argument("--size", type=int, default=8, help="questions")
    args = parser.parse_args()

    loaded = load_model(args.model)
    samples = load_samples("world:math", split="test", size=args.size)
    groups = generate(loaded, samples, group_size=4, max_new_tokens=64)
    pairs = [(sample, completion) for sample, group in zip(samples, groups, strict=True) for completion in group]

    for name, config in (
        ("rule grader", RewardConfig()),
        ("off by one", RewardConfig(function="own_reward:off_by_one", accuracy_weight=1.0, format_weight=0.0)),
    ):
        with Rewarder(config) as rewarder:
            rewarder.score(pairs)
        mean = sum(completion.reward for _, completion in pairs) / len(pairs)
        print(f"{name}: mean reward {mean:.3f} of {len(pairs)} responses; first: {pairs[0][1].grade}")


if __name__ == "__main__":
    main()
