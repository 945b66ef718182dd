"""Token entropy of any Hugging Face vision-language checkpoint, at critical words and elsewhere (paper 5.1).

    python examples/checkpoint_entropy.py MODEL --data questions.jsonl --words Wait,Alternatively

`seethink entropy` has more: standard errors, stored responses scored again, comparisons of two checkpoints.
"""

from __future__ import annotations

import argparse

import torch

from seethink import load_model, load_samples, measure_entropy, token_entropy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", nargs="?", default="nano", help="nano, a checkpoint folder, or a hub name")
    parser.add_argument("--data", default="world:math", help="world:DOMAINS, or a JSONL or Parquet file")
    parser.add_argument("--size", type=int, default=16, help="questions")
    parser.add_argument("--words", default="Wait,Alternatively,But", help="critical words, with commas between")
    parser.add_argument("--max-new-tokens", type=int, default=160)
    args = parser.parse_args()

    loaded = load_model(args.model)
    samples = load_samples(args.data, split="test", size=args.size)

    # The very next token: one plain forward of transformers, and the entropy of its last distribution.
    prompt = loaded.chat.prompt(samples[0])
    ids = torch.tensor([prompt.input_ids], device=loaded.device)
    with torch.no_grad():
        logits = loaded.model(input_ids=ids, **{k: v.to(loaded.device) for k, v in prompt.mm_kwargs.items()}).logits
    print(f"first token of a response: {float(token_entropy(logits[0, -1])):.3f} nats")

    # Whole responses, sampled and graded.
    report = measure_entropy(loaded, samples, max_new_tokens=args.max_new_tokens, words=args.words.split(","))
    for name, group in report.groups.items():
        if group.estimate.n:
            print(f"{name:>12}: {group.estimate.mean:.3f} nats over {group.estimate.n} tokens")
    print(f"accuracy: {100 * report.accuracy.mean:.1f}% of {report.completions} responses")


if __name__ == "__main__":
    main()
