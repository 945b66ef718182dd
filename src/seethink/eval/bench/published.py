"""Published figures of other models, in percent, to show beside a model's own."""

from __future__ import annotations


def of_authors(qvq: float, internvl: float, qwen: float, claude: float, gpt4o: float) -> dict[str, float]:
    """A row of the table in which the paper's authors compare Skywork-R1V3 with other models.

    Source: https://github.com/SkyworkAI/Skywork-R1V, README.md of July 2025, "Comparison of Skywork-R1V3 with
    Multimodal Open-Source and Proprietary Models". The authors measured some of the figures themselves; the
    others are as the models' own reports have them, by whatever prompt and judge.
    """
    return {
        "QVQ-72B": qvq,
        "InternVL3-78B": internvl,
        "Qwen2.5-VL-72B": qwen,
        "Claude 3.7": claude,
        "GPT-4o": gpt4o,
    }
