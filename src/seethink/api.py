"""Whole tasks as one call each: load samples, generate, evaluate, train, measure entropy, select a checkpoint.

Every function here only puts parts of the package together; what it computes is computed elsewhere. Nothing heavy is
imported before a function is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seethink.config import LogConfig, ReadConfig, Recipe, RewardConfig
from seethink.core.arguments import require_list, require_number, require_one_of, require_seed, require_whole
from seethink.core.errors import UserError
from seethink.core.types import Completion, Prompt, Sample

if TYPE_CHECKING:
    from torch import Tensor

    from seethink.eval.score import TaskScore
    from seethink.models.load import LoadedModel
    from seethink.rewards.rewarder import Rewarder
    from seethink.studies.entropy.measurement import EntropyReport
    from seethink.studies.selection.ranking import Selection

SPLITS = ("train", "val", "test")


def load_samples(
    source: str,
    *,
    split: str = "train",
    size: int | None = None,
    seed: int = 0,
    config: ReadConfig | None = None,
    quarantine: Path | None = None,
    graded: bool = False,
) -> list[Sample]:
    """Read the first `size` good samples of a data source.

    Images are decoded once, to check them, and loaded again when they are used.

    Args:
        source: `world:DOMAINS[:traces][?OPTIONS]`, a JSONL, JSON, Parquet or Arrow file, a folder, or a Hugging Face
            name `org/name[:config]` (with `ReadConfig(allow_download=True)`).
        split: `train`, `val` or `test`.
        size: Samples to read; None reads all. The world is endless and needs a size.
        seed: Of the world's samples; files have an order of their own.
        config: How rows are read: column style, image folder, limits.
        quarantine: JSONL file that bad rows are written to.
        graded: Whether a row without a gold answer is bad, as in RL and evaluation.

    Returns:
        Samples in the order of the source. Bad rows are left out.

    Raises:
        DataError: The source cannot be read, or more than `config.max_bad_share` of its rows are bad.
        UserError: An argument is not as described here.
    """
    require_one_of("split", split, SPLITS)
    require_seed(seed)
    if size is not None:
        require_whole(1, size=size)
    from seethink.data import dataset
    from seethink.rewards.golds import read_gold

    file = Path(quarantine) if quarantine is not None else None
    return dataset.load_samples(
        str(source), split, size, seed, golds=read_gold, config=config, quarantine=file, graded=graded
    )


def generate(
    loaded: LoadedModel,
    prompts: Sequence[Sample] | Sequence[Prompt],
    *,
    group_size: int = 1,
    max_new_tokens: int = 512,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int | tuple[int, ...] = 0,
) -> list[list[Completion]]:
    """Sample `group_size` responses to each prompt from the weights of `loaded` as they are now.

    The prompt and its images go through the model once per group (paper 3.3, step 1).

    Args:
        loaded: What `load_model` returned. Its model is in training or evaluation mode afterwards as it was before.
        prompts: [P] Questions with their images, or prompts that `loaded.chat.prompt` has tokenized already.
        group_size: G, responses per prompt.
        max_new_tokens: Tokens after which a response is cut off.
        temperature: Divides the logits; 0 takes the likeliest token each time.
        top_p: Draw from the likeliest tokens whose probabilities add up to this share.
        seed: What is random in response g to prompt p depends on (seed, p, g) alone.

    Returns:
        `[P][G]` Completions with their text, `[T]` token ids, `[T]` log-probabilities and `[T]` entropies in nats.

    Raises:
        UserError: An image cannot be read, the model does not take as many as a sample has, or an argument is not as
            described here.
    """
    from seethink.generate.make import make_generator
    from seethink.generate.protocol import Sampling

    if not isinstance(prompts, Sequence):
        raise UserError(f"prompts must be a list, not {type(prompts).__name__}; give [prompt] for one")
    if strange := [p for p in prompts if not isinstance(p, Sample | Prompt)]:
        raise UserError(f"prompts must be a list of Sample or Prompt, but holds {strange[0]!r:.80}")
    require_whole(1, group_size=group_size, max_new_tokens=max_new_tokens)
    seeds = seed if isinstance(seed, tuple) else (seed,)
    for one in seeds:
        require_seed(one)
    require_number("temperature", temperature, least=0)
    require_number("top_p", top_p, above=0)
    sampling = Sampling(max_new_tokens, temperature, top_p)
    tokenized = [loaded.chat.prompt(p) if isinstance(p, Sample) else p for p in prompts]
    return make_generator(loaded).generate(tokenized, group_size, sampling, seeds)


def evaluate(
    loaded: LoadedModel,
    samples: Sequence[Sample],
    *,
    responses: int = 4,
    temperature: float = 1.0,
    max_new_tokens: int = 512,
    rewarder: Rewarder | None = None,
    seed: int = 0,
    name: str = "task",
) -> TaskScore:
    """Accuracy of a model with its standard error: avg@k, or greedy decoding at temperature 0.

    Args:
        loaded: What `load_model` returned.
        samples: [N] Questions with gold answers.
        responses: k, responses per question. Its accuracy is the mean over them.
        temperature: Of sampling; 0 is greedy, and then one response says everything.
        max_new_tokens: Tokens after which a response is cut off.
        rewarder: Grades the responses; by default the rule grader, as in training.
        seed: Of sampling; two models with the same seed are compared on the same random numbers.
        name: Names the task in `TaskScore.metrics()`.

    Returns:
        The score of all questions, of each domain and difficulty (`parts`), and the graded responses. An accuracy is
        in [0, 1]; its standard error is that of the mean over questions.

    Raises:
        UserError: An image cannot be read, or an argument is not as described here.
    """
    _require_sampling(samples, responses, max_new_tokens, temperature, seed)
    from seethink.data.prompts import PromptList
    from seethink.eval.runner import evaluate_task
    from seethink.eval.tasks.source import SourceTask
    from seethink.generate.make import make_generator
    from seethink.rewards.rewarder import Rewarder

    task = SourceTask(name, samples)
    return evaluate_task(
        task,
        make_generator(loaded),
        PromptList(samples, loaded.chat),
        rewarder or Rewarder(RewardConfig()),
        samples=responses,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
    )


def train(
    recipe: Recipe, *, resume: bool = False, allow: Sequence[str] = (), function_folder: Path | None = None
) -> Path:
    """Train one stage: supervised fine-tuning, GRPO or PPO, as `recipe.stage` says (paper 3.2 to 3.4).

    The run folder `recipe.out` gets the resolved recipe, metrics, rollouts and checkpoints. A run that was killed and
    resumed ends as if it had not been killed, to the last bit.

    Args:
        recipe: From `load_recipe` or `make_recipe`.
        resume: Go on from the newest checkpoint in `recipe.out`; a finished run is left as it is, unless a change that
            is allowed gives it more to train.
        allow: Keys of the recipe (or `data`, `model`) that may differ from the run that is resumed.
        function_folder: Where the module of `reward.function` may lie, besides the import path.

    Returns:
        The folder of the checkpoint that the stage ends with, which the next stage's `model` key takes.

    Raises:
        UserError: The recipe, the model, the data or the run folder cannot be used.
        RunStopped: SIGTERM or Ctrl-C stopped the run after it was saved.
        StoppedByWatchdog: A watchdog stopped the run (`watchdogs.action = "stop"`).
    """
    if not isinstance(recipe, Recipe):
        raise UserError(f"recipe must be a Recipe, not {recipe!r:.80}: load_recipe reads one, make_recipe makes one")
    require_list(str, allow=allow)
    from seethink.train.start import train as run_recipe

    folder = Path(function_folder) if function_folder is not None else None
    return run_recipe(recipe, resume=resume, allow=allow, function_folder=folder)


def select_checkpoint(
    run: Path,
    *,
    by: str = "critical_entropy",
    data: str | None = None,
    in_domain: Sequence[str] = (),
    size: int = 100,
    responses: int = 2,
    max_new_tokens: int = 160,
    seed: int = 0,
    export: Path | None = None,
) -> Selection:
    """Rank a run's checkpoints by a criterion, the paper's by default: entropy at critical words (paper 5.1).

    Criteria are measured on half of the items and judged by the accuracy on the other half. Measurements are kept in
    the run's folder, and a second call measures only what is new. `select.json` there holds the result.

    Args:
        run: A run's folder, or any folder of Hugging Face checkpoints.
        by: `critical_entropy`, `entropy_following`, `entropy_mean`, `tail_share`, `reward`, `accuracy`,
            `out_of_domain_accuracy` or `last`.
        data: Held-out questions: a file, a folder or `world:DOMAINS`. A run on the world has `world:all`.
        in_domain: Domains of the data that the run was trained on; a run on the world knows its own.
        size: Items per domain for the criteria, and as many to judge them.
        responses: Responses per item, at temperature 1.
        max_new_tokens: Tokens after which a response is cut off.
        seed: Of items and sampling.
        export: Folder to write the chosen checkpoint to.

    Returns:
        Every criterion on every checkpoint with its interval. `chosen` is the best checkpoint, relative to `run`.

    Raises:
        UserError: There are fewer than two checkpoints, no data to measure them on, or an argument is not as described
            here.
    """
    require_list(str, in_domain=in_domain)
    require_whole(1, size=size, responses=responses, max_new_tokens=max_new_tokens)
    require_seed(seed)
    from seethink.studies.selection.select_run import select_run, settings_of

    run, target = Path(run), Path(export) if export is not None else None
    settings = settings_of(run, "", samples=responses, max_new_tokens=max_new_tokens, seed=seed)
    return select_run(run, settings, by=by, data=data, size=size, in_domain=in_domain, export=target)


def measure_entropy(
    loaded: LoadedModel,
    samples: Sequence[Sample],
    *,
    responses: int = 4,
    max_new_tokens: int = 160,
    temperature: float = 1.0,
    words: Sequence[str] = (),
    seed: int = 0,
) -> EntropyReport:
    """Token entropy of a model's responses where critical words ("Wait", ...) are chosen and after them (paper 5.1).

    Args:
        loaded: What `load_model` returned.
        samples: [N] Questions with gold answers.
        responses: Responses per question.
        max_new_tokens: Tokens after which a response is cut off.
        temperature: Of sampling, and of the distributions whose entropy is measured.
        words: Critical words in any language; by default those of `[log]` in a recipe.
        seed: Of sampling.

    Returns:
        Entropies in nats: of all tokens, at critical words, after them, by correctness and by place in the response.

    Raises:
        UserError: An image cannot be read, or an argument is not as described here.
    """
    _require_sampling(samples, responses, max_new_tokens, temperature, seed)
    require_list(str, words=words)
    from seethink.eval.tasks.source import SourceTask
    from seethink.studies.entropy import measurement

    settings = measurement.EntropySettings(
        words=tuple(words) or LogConfig().critical_words,
        samples=responses,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
    )
    return measurement.measure_entropy(loaded, SourceTask("entropy", samples), settings, seed=seed)


def token_entropy(logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Entropy of each next-token distribution, -sum p log p over the whole vocabulary (paper 5.1).

    Args:
        logits: [..., V] Of any Hugging Face model. Half precision is computed in float32.
        temperature: Divides the logits.

    Returns:
        [...] Entropies in nats, between 0 and log V, without gradient.

    Raises:
        UserError: The temperature is not positive; at 0 every entropy is 0.
    """
    require_number("temperature", temperature, above=0)
    import torch

    from seethink.models.logprobs import entropy_of

    with torch.no_grad():
        logits_NV = logits.reshape(-1, logits.shape[-1]).to(torch.promote_types(logits.dtype, torch.float32))
        logp_NV = (logits_NV / temperature).log_softmax(-1)
        return entropy_of(logp_NV, logp_NV.exp()).view(logits.shape[:-1])


def _require_sampling(
    samples: Sequence[Sample], responses: int, max_new_tokens: int, temperature: float, seed: int
) -> None:
    """What `evaluate` and `measure_entropy` are given. Raises UserError."""
    require_list(Sample, samples=samples)
    if not samples:
        raise UserError("samples is empty: give at least one question")
    require_whole(1, responses=responses, max_new_tokens=max_new_tokens)
    require_number("temperature", temperature, least=0)
    require_seed(seed)
