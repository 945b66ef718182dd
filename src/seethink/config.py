"""Every recipe key, with its meaning and its check. Imports no torch, so that `--dry-run` and editors are quick.

A recipe is a TOML file; `key=value` words on the command line override it (`optim.lr=1e-6`). Unknown keys are
refused. The resolved recipe is saved with the run.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from seethink.errors import UserError
from seethink.rewards.verifier_config import VerifierConfig

Part = Literal["vision", "connector", "language"]
PARTS: tuple[Part, ...] = ("vision", "connector", "language")
Difficulty = str
Watchdog = Literal[
    "reward_collapse", "entropy_collapse", "entropy_surge", "grad_norm", "repetition", "compression",
    "length_explosion", "truncation", "format_loss", "language_mixing", "blindness",
]  # fmt: skip
WatchdogAction = Literal["off", "warn", "checkpoint", "stop"]
MAX_PIXELS = 50_000_000
"""Of one image: 150 MB as RGB."""


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ReadConfig(Section):
    """How rows are read and which are left out; evaluation reads as training does."""

    style: Literal["auto", "seethink", "trl", "easyr1", "verl", "ms-swift", "vlm-r1"] = Field(
        "auto", description="Whose columns the rows have; auto tells from the first rows (data/columns.py)."
    )
    image_root: str | None = Field(None, description="Folder that image paths are relative to and confined in.")
    max_pixels: int = Field(MAX_PIXELS, gt=0, le=178_000_000, description="Images of more pixels are bad rows.")
    allow_urls: bool = Field(False, description="Fetch images from http(s) addresses outside private networks.")
    allow_download: bool = Field(False, description="Fetch data sets by their Hugging Face name, org/name[:config].")
    max_bad_share: float = Field(0.05, ge=0, le=1, description="Stop where more of the rows are quarantined.")
    max_prompt_tokens: int | None = Field(
        None, gt=0, description="Longer prompts, image tokens included, are left out; the lengths are cached."
    )


class DataConfig(ReadConfig):
    train: str = Field(
        description="`world:DOMAINS[:traces][?OPTIONS]`, a file, a folder, or org/name with allow_download."
    )
    train_size: int | None = Field(None, gt=0, description="Use the first so many samples; required for world:.")
    val: str | None = Field(None, description="Held-out samples, for the validation loss (SFT) and blindness.")
    val_size: int | None = Field(None, gt=0, description="Default: a twentieth of the training samples.")


class PartModules(Section):
    """For a family that models/parts.py does not list; `seethink parts MODEL` prints the module names."""

    vision: tuple[str, ...] = Field(min_length=1, description="Modules of the vision encoder; `*` matches any name.")
    connector: tuple[str, ...] = Field(min_length=1, description="Modules between vision encoder and language model.")
    language: tuple[str, ...] = Field(min_length=1, description="Modules of the language model, its head included.")
    image_tokens: tuple[str, ...] = Field((), description="Tokens never sampled, besides the config's image ids.")


class PartsConfig(Section):
    modules: PartModules | None = Field(None, description="Where the parts are; only for unlisted families.")
    train: tuple[Part, ...] = Field(PARTS, min_length=1, description="Which parts learn; the others are frozen.")
    lr_vision: float | None = Field(None, gt=0, description="Default: optim.lr.")
    lr_connector: float | None = Field(None, gt=0, description="Default: optim.lr.")
    lr_language: float | None = Field(None, gt=0, description="Default: optim.lr.")
    vision_cache_mb: int = Field(512, ge=0, description="Kept features of a frozen, large vision encoder; 0: none.")


class LoraConfig(Section):
    parts: tuple[Part, ...] = Field((), description="Parts that learn through low-rank adapters, of parts.train.")
    rank: int = Field(16, gt=0, description="Rank of the adapters.")
    alpha: float = Field(32.0, gt=0, description="Adapters are scaled by alpha / rank.")


class OptimConfig(Section):
    lr: float = Field(1e-5, gt=0, description="Learning rate of parts without a rate of their own.")
    schedule: Literal["constant", "cosine"] = Field("constant", description="What follows the warmup.")
    warmup_ratio: float = Field(0.0, ge=0, lt=1, description="Share of the steps with a linearly rising rate.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's, on matrices only.")
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW's decay of the gradient's mean.")
    beta2: float = Field(0.999, ge=0, lt=1, description="AdamW's decay of the squared gradient's mean.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients of all parts together are clipped to this norm.")
    max_bad_steps: int = Field(3, gt=0, description="Stop after so many steps in a row with NaN or infinity; skipped.")
    micro_tokens: int = Field(
        1024, gt=0, description="Token budget of one forward and backward; more fills a GPU, a CPU is slower for it."
    )
    shared_prompt: bool = Field(True, description="In RL, a group's prompt goes through the model once, exactly.")
    gradient_checkpointing: bool = Field(False, description="Recompute layers in backward: less memory, more time.")


class SftConfig(Section):
    epochs: int = Field(2, gt=0, description="Passes over the data.")
    batch_size: int = Field(64, gt=0, description="Samples per optimizer step.")
    pack_length: int = Field(512, gt=0, description="Tokens of a packed row; longer samples get a row alone.")
    max_length: int = Field(16384, gt=0, description="Samples longer than this, prompt included, are dropped.")
    val_every: int = Field(20, gt=0, description="Steps between validation losses.")
    patience: int = Field(3, gt=0, description="Stop after so many validations without a better loss.")
    max_response_tokens: int = Field(8192, gt=0, description="Filter: traces longer than this are dropped.")
    max_repetition: float = Field(0.5, gt=0, le=1, description="Filter: share of repeated 4-grams in a trace.")
    require_think: bool = Field(True, description="Filter: drop responses that are not <think>...</think>answer.")
    drop_hallucinated: bool = Field(
        True, description="Filter: drop traces that say the image cannot be seen, though the sample has one."
    )
    latin_only: bool = Field(True, description="Filter: drop traces that mix in another script.")


class RolloutConfig(Section):
    prompts_per_step: int = Field(32, gt=0, description="Prompts of one episode.")
    group_size: int = Field(32, gt=1, description="Completions per prompt.")
    temperature: float = Field(1.0, gt=0, description="Of sampling, and of the log-probs that are trained.")
    top_p: float = Field(1.0, gt=0, le=1, description="Sample from the likeliest tokens that reach this share.")
    max_new_tokens: int = Field(4096, gt=0, description="Longest response.")
    length_schedule: tuple[tuple[float, int], ...] = Field(
        (), description="[share of training, max_new_tokens] pairs, e.g. [[0.5, 8192]]: longer answers later."
    )
    max_rows: int = Field(256, gt=0, description="Completions decoded at once.")


class AlgorithmConfig(Section):
    """GRPO (paper eq. 6-7). Defaults are the paper's: on-policy, clip 0.2, no KL."""

    steps: int = Field(100, gt=0, description="Episodes.")
    clip_low: float = Field(0.2, gt=0, lt=1, description="The ratio is clipped to 1 - clip_low ... 1 + clip_high.")
    clip_high: float = Field(0.2, gt=0, description="Above clip_low: clip-higher.")
    kl_beta: float = Field(0.0, ge=0, description="KL to the starting model; 0 loads no reference.")
    aggregation: Literal["sequence", "token", "dr_grpo"] = Field(
        "sequence", description="Mean per response (paper), over all tokens, or sum over a constant length (Dr.GRPO)."
    )
    normalize_std: bool = Field(True, description="False: advantages are rewards less the group mean (Dr.GRPO).")
    minibatches: int = Field(1, gt=0, description="Gradient steps per pass over an episode.")
    epochs: int = Field(1, gt=0, description="Passes over an episode.")
    dynamic_sampling: bool = Field(False, description="Drop groups without variance and sample others instead.")
    max_resamples: int = Field(3, gt=0, description="Rounds of dynamic sampling before going on with fewer groups.")
    curriculum: tuple[tuple[float, tuple[Difficulty, ...]], ...] = Field(
        (), description='[share of training, difficulties] pairs, e.g. [[0.0, ["normal"]], [0.5, ["hard"]]].'
    )


class PpoConfig(Section):
    gae_lambda: float = Field(1.0, ge=0, le=1, description="1: whole returns, 0: one-step estimates.")
    gamma: float = Field(1.0, gt=0, le=1, description="Discount per token.")
    value_coef: float = Field(0.5, gt=0, description="Weight of the value loss.")
    value_clip: float = Field(0.2, gt=0, description="Values may move so far from the old ones in a step.")
    critic_lr: float = Field(1e-4, gt=0, description="Learning rate of the value head.")


class RewardConfig(Section):
    accuracy_weight: float = Field(0.8, ge=0, description="Reward of a correct answer.")
    format_weight: float = Field(0.2, ge=0, description="Reward of the form <think>...</think>answer.")
    hallucination_penalty: float = Field(
        0.0, ge=0, description="Off the reward of a response that says the image cannot be seen, though there is one."
    )
    function: str | None = Field(None, description="`module:function` of your own in place of the rule grader.")
    verifier: VerifierConfig | None = Field(None, description="LLM verifier, asked where the rule says no.")


class BlindnessConfig(Section):
    """Held-out samples with their true picture, a blank one and a wrong one: see analysis/blindness.py."""

    every: int = Field(50, ge=0, description="Steps between checks, the first before step 1; 0 turns the guard off.")
    samples: int = Field(64, gt=1, description="Held-out samples with images; from data.val, else not trained on.")
    action: Literal["stop", "warn"] = Field(
        "stop", description="Where the image does not matter. Pixels lost on the way always stop the run."
    )


class WatchdogsConfig(Section):
    """Alarms from the metrics of a run that goes wrong: analysis/watchdogs.py has the table, docs/watchdogs.md says how
    good they are."""

    action: WatchdogAction = Field(
        "warn", description="On an alarm: warn, warn and save a checkpoint, or save and stop with exit code 76."
    )
    actions: dict[Watchdog, WatchdogAction] = Field({}, description='By watchdog, e.g. { reward_collapse = "stop" }.')
    thresholds: dict[Watchdog, float] = Field({}, description="In place of the defaults, e.g. { truncation = 0.5 }.")


class EvalConfig(Section):
    data: str | None = Field(None, description="As data.train; None: no evaluation.")
    size: int = Field(500, gt=0, description="Items per domain.")
    samples: int = Field(4, ge=0, description="k of avg@k at temperature 1; 0 skips it.")
    greedy: bool = Field(True, description="Also decode greedily.")
    max_new_tokens: int = Field(4096, gt=0, description="Longest response.")


class CheckpointConfig(Section):
    every: int = Field(50, gt=0, description="Steps between checkpoints; the last step always has one.")
    keep: int = Field(2, gt=0, description="Newest checkpoints kept.")
    keep_best: int = Field(0, ge=0, description="Besides them, the best by best_metric.")
    best_metric: str | None = Field(None, description="A key of metrics.jsonl, e.g. loss/val or reward/accuracy.")
    best_mode: Literal["max", "min"] = Field("max", description="Whether more or less of best_metric is better.")
    grace_s: float = Field(20.0, gt=0, description="After SIGTERM or Ctrl-C a step may take so long; then it is left.")


class LogConfig(Section):
    tensorboard: bool = Field(True, description="Write TensorBoard files beside metrics.jsonl.")
    rollouts_every: int = Field(10, gt=0, description="Steps between rollouts stored for the report.")
    rollouts_kept: int = Field(4, gt=0, description="Prompt groups stored each time.")
    critical_words: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        ("Wait", "Alternatively", "Hmm", "But", "However", "Let me check"),
        description="Words at which the entropy is logged apart (paper 5.1), whole and in any case; any language.",
    )
    critical_window: int = Field(8, gt=0, description="Tokens after a critical word that count as following it.")
    entropy_threshold: float | None = Field(
        None, gt=0, description="Nats above which a token is in the tail. Default: the paper's 6.8, or for a small "
        "vocabulary (under 10,000) log.entropy_quantile.",
    )  # fmt: skip
    entropy_quantile: float = Field(
        0.99, gt=0, lt=1, description="Quantile of the first step's entropies that is a small vocabulary's threshold."
    )


class Recipe(Section):
    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9._-]+$", description="Shown on bars and in reports.")
    stage: Literal["sft", "grpo", "ppo"] = Field(description="Which loop runs.")
    model: str = Field(
        "nano", description="`nano` or another packaged base (docs/nano.md), a checkpoint folder, or a hub name."
    )
    out: str = Field(description="Run folder.")
    seed: int = Field(0, ge=0, description="Of data order, sampling and new weights.")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="Of weights and activations.")
    trust_remote_code: bool = Field(False, description="Run code that comes with the model. Off unless you mean it.")
    data: DataConfig
    parts: PartsConfig = PartsConfig()
    lora: LoraConfig = LoraConfig()
    optim: OptimConfig = OptimConfig()
    sft: SftConfig = SftConfig()
    rollout: RolloutConfig = RolloutConfig()
    algorithm: AlgorithmConfig = AlgorithmConfig()
    ppo: PpoConfig = PpoConfig()
    reward: RewardConfig = RewardConfig()
    blindness: BlindnessConfig = BlindnessConfig()
    watchdogs: WatchdogsConfig = WatchdogsConfig()
    eval: EvalConfig = EvalConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if frozen := set(self.lora.parts) - set(self.parts.train):
            raise ValueError(f"lora.parts names {', '.join(sorted(frozen))}, which parts.train leaves frozen")
        if self.checkpoint.keep_best and self.checkpoint.best_metric is None:
            raise ValueError("checkpoint.keep_best needs checkpoint.best_metric, a key of metrics.jsonl")
        episode = self.rollout.prompts_per_step
        if self.algorithm.minibatches > episode:
            raise ValueError(
                f"algorithm.minibatches={self.algorithm.minibatches} exceeds rollout.prompts_per_step={episode}; "
                "a minibatch needs at least one prompt"
            )
        for where, share in [
            *(("rollout.length_schedule", s) for s, _ in self.rollout.length_schedule),
            *(("algorithm.curriculum", s) for s, _ in self.algorithm.curriculum),
        ]:
            if not 0 <= share < 1:
                raise ValueError(f"{where} starts at share {share}; give the share of training done, 0 <= share < 1")
        return self

    def lr(self, part: Part) -> float:
        own = {
            "vision": self.parts.lr_vision,
            "connector": self.parts.lr_connector,
            "language": self.parts.lr_language,
        }
        return own[part] or self.optim.lr


class RecipeError(UserError):
    """A recipe that cannot be used; the message says what to change."""


def load_recipe(path: Path, overrides: list[str] | None = None) -> Recipe:
    """Read a TOML recipe and apply `key=value` overrides. Raises RecipeError."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"no recipe at {path}; see the recipes/ folder for complete ones") from None
    except (ValueError, RecursionError, OSError) as error:
        # ValueError: bad TOML, bad UTF-8, and integers of too many digits.
        raise RecipeError(f"{path} is not a readable TOML file: {error}") from None
    return make_recipe(table, overrides or [], source=str(path))


def make_recipe(table: dict[str, Any], overrides: list[str] = [], *, source: str = "recipe") -> Recipe:  # noqa: B006
    for override in overrides:
        apply_override(table, override)
    try:
        return Recipe.model_validate(table)
    except ValidationError as error:
        raise RecipeError(f"{source}: " + "; ".join(explain(e) for e in error.errors())) from None


def make_reading(overrides: list[str]) -> ReadConfig:
    """How to read data, from `data.KEY=VALUE` words, for commands without a recipe. Raises RecipeError."""
    table: dict[str, Any] = {}
    for override in overrides:
        apply_override(table, override)
    strange = [key for key in table if key != "data"]
    if strange:
        raise RecipeError(f"{strange[0]!r}: only keys of [data] can be given here, e.g. data.style=easyr1")
    try:
        return ReadConfig.model_validate(table.get("data", {}))
    except ValidationError as error:
        raise RecipeError("data: " + "; ".join(explain(e) for e in error.errors())) from None


def split_names(text: str) -> tuple[str, ...]:
    """The names of a comma-separated list of the command line."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def apply_override(table: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"{override!r} is not of the form key=value, e.g. optim.lr=1e-6")
    *sections, last = key.strip().split(".")
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise RecipeError(f"{key}: {section!r} is a value, not a section")
    table[last] = _parse(text)


def _parse(text: str) -> Any:
    """A TOML value; words that are not TOML are strings, so that `model=nano` needs no quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def explain(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"]) or "recipe"
    if error["type"] == "extra_forbidden":
        return f"unknown key {where!r}{_suggest(where)}"
    if error["type"] == "missing":
        return f"{where!r} is required"
    got = repr(error["input"])
    # A server's address may hold a secret.
    shown = f" (got {got})" if len(got) < 60 and not where.startswith("reward.verifier") else ""
    return f"{where}: {error['msg'].removeprefix('Value error, ')}{shown}"


def _suggest(where: str) -> str:
    import difflib

    close = difflib.get_close_matches(where, list(recipe_keys()), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def recipe_keys(model: type[BaseModel] = Recipe, prefix: str = "") -> dict[str, str]:
    """Every key with its description: {"optim.lr": "...", ...}."""
    keys: dict[str, str] = {}
    for name, field in model.model_fields.items():
        section = next((t for t in _types(field.annotation) if issubclass(t, BaseModel)), None)
        if section is not None:
            keys |= recipe_keys(section, f"{prefix}{name}.")
        else:
            keys[prefix + name] = field.description or ""
    return keys


def _types(annotation: Any) -> list[type]:
    if isinstance(annotation, type) and not hasattr(annotation, "__origin__"):
        return [annotation]
    return [t for a in getattr(annotation, "__args__", ()) if isinstance(a, type) for t in _types(a)]
