"""Serves checkpoints with vLLM, one after another, in this process. It runs in vLLM's own environment.

    python serve.py jobs.json answers.json

jobs.json: [{name, folder, stop_ids, allowed_ids, max_new_tokens, overrides,
    prompts: [{text, images, add_special_tokens}]}].
answers.json: {name: {error} or {answers: [{prompt_ids, token_ids, logprobs}]}}, written after every job.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

# The engine runs in this process: a child would import torch again. No pinning to cores that others may use. The first
# run asks a child per architecture what it can do, which takes minutes; the answers are kept beside the environment.
SETTINGS = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_CACHE_ROOT": str(Path(sys.prefix) / "cache"),
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
}


def serve(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Greedy answers to the job's prompts."""
    from vllm import LLM, SamplingParams

    llm = LLM(
        job["folder"],
        dtype="float32",
        enforce_eager=True,
        max_model_len=256,
        limit_mm_per_prompt={"image": 2},
        logprobs_mode="processed_logprobs",
        hf_overrides=job["overrides"],
    )
    sampling = SamplingParams(
        temperature=0,
        max_tokens=job["max_new_tokens"],
        stop_token_ids=job["stop_ids"],
        allowed_token_ids=job["allowed_ids"],
        logprobs=0,
    )
    return [answer(llm, sampling, prompt) for prompt in job["prompts"]]


def answer(llm: Any, sampling: Any, prompt: dict[str, Any]) -> dict[str, Any]:
    """vLLM runs the checkpoint's own processor on the chat template's text."""
    from PIL import Image

    pictures = [Image.open(path).convert("RGB") for path in prompt["images"]]
    inputs = {"prompt": prompt["text"], **({"multi_modal_data": {"image": pictures}} if pictures else {})}
    special = {"add_special_tokens": prompt["add_special_tokens"]}
    (output,) = llm.generate([inputs], sampling, use_tqdm=False, tokenization_kwargs=special)
    made = output.outputs[0]
    ids = list(made.token_ids)
    logprobs = [step[token].logprob for step, token in zip(made.logprobs, ids, strict=True)]
    return {"prompt_ids": list(output.prompt_token_ids), "token_ids": ids, "logprobs": logprobs}


def main(jobs: Path, answers: Path) -> None:
    from vllm.distributed import cleanup_dist_env_and_memory

    found: dict[str, Any] = {}
    for job in json.loads(jobs.read_text()):
        try:
            found[job["name"]] = {"answers": serve(job)}
        except Exception as error:
            found[job["name"]] = {"error": f"{type(error).__name__}: {error}"}
        # An engine that is collected later would tear down the groups of the next.
        cleanup_dist_env_and_memory()
        answers.write_text(json.dumps(found))


if __name__ == "__main__":
    os.environ.update(SETTINGS)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
