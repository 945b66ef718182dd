"""The whole recipe: its sections, and what must hold between them."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from seethink.config.cluster import ClusterConfig
from seethink.config.data import DataConfig
from seethink.config.guards import BlindnessConfig, WatchdogsConfig
from seethink.config.optim import OptimConfig
from seethink.config.output import CheckpointConfig, EvalConfig, LogConfig
from seethink.config.parts import LoraConfig, PartsConfig
from seethink.config.reward import RewardConfig
from seethink.config.rl import AlgorithmConfig, PpoConfig, RolloutConfig
from seethink.config.section import Section
from seethink.config.sft import SftConfig
from seethink.config.tools import ToolConfig
from seethink.config.vllm import VllmConfig
from seethink.core.arguments import SEEDS

Stage = Literal["sft", "grpo", "ppo"]
FOREIGN: dict[Stage, tuple[str, ...]] = {
    "sft": ("rollout", "algorithm", "ppo", "vllm"),
    "grpo": ("sft", "ppo"),
    "ppo": ("sft",),
}
"""Sections that a stage does not read; a recipe that has one is refused."""


def foreign_sections(table: dict[str, Any]) -> list[str]:
    """The sections of a recipe that its stage does not read."""
    return [s for stage, sections in FOREIGN.items() if stage == table.get("stage") for s in sections if s in table]


def explain_foreign(stage: str, section: str) -> str:
    return f"stage {stage!r} does not read [{section}]: remove the section, or change the stage"


class Recipe(Section):
    """Everything that a training run is told: `load_recipe` reads one, `make_recipe` makes one from dicts."""

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9._-]+$", description="Shown on bars and in reports.")
    stage: Stage = Field(description="Which loop runs.")
    model: str = Field(
        "nano", description="`nano` or another packaged base (docs/nano.md), a checkpoint folder, or a hub name."
    )
    out: str = Field(description="Run folder.")
    seed: int = Field(0, ge=0, lt=SEEDS, description="Of data order, sampling and new weights.")
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
    vllm: VllmConfig = VllmConfig()
    reward: RewardConfig = RewardConfig()
    blindness: BlindnessConfig = BlindnessConfig()
    watchdogs: WatchdogsConfig = WatchdogsConfig()
    eval: EvalConfig = EvalConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="before")
    @classmethod
    def _has_the_sections_of_its_stage(cls, table: Any) -> Any:
        if isinstance(table, dict) and (foreign := foreign_sections(table)):
            raise ValueError(explain_foreign(table["stage"], foreign[0]))
        return _corrected(table)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if frozen := set(self.lora.parts) - set(self.parts.train):
            raise ValueError(f"lora.parts names {', '.join(sorted(frozen))}, which parts.train leaves frozen")
        if self.lora.base != "float32" and (refused := _what_bases_in_few_bits_refuse(self)):
            raise ValueError(f"lora.base={self.lora.base!r} {refused}")
        if self.checkpoint.keep_best and self.checkpoint.best_metric is None:
            raise ValueError("checkpoint.keep_best needs checkpoint.best_metric, a key of metrics.jsonl")
        if self.eval.every and self.eval.data is None:
            raise ValueError("eval.every needs eval.data, the items to evaluate on")
        if (self.checkpoint.best_metric or "").startswith("eval/") and not self.eval.every:
            metric = self.checkpoint.best_metric
            raise ValueError(f"checkpoint.best_metric={metric!r} needs eval.every, the steps between evaluations")
        if (self.checkpoint.best_metric or "").startswith("eval/") and self.checkpoint.every % self.eval.every:
            raise ValueError(
                f"checkpoint.every={self.checkpoint.every} is no multiple of eval.every={self.eval.every}: "
                f"{self.checkpoint.best_metric} would not be known of every checkpoint"
            )
        if self.rollout.engine == "vllm" and (refused := _what_vllm_refuses(self.rollout)):
            raise ValueError(refused)
        if self.cluster.sequence_parallel > 1 and (refused := _what_shared_sequences_refuse(self)):
            raise ValueError(f"cluster.sequence_parallel={self.cluster.sequence_parallel} {refused}")
        if refused := _what_environments_refuse(self.rollout, self.algorithm, self.optim):
            raise ValueError(refused)
        if self.rollout.ahead and (refused := _what_rollouts_ahead_refuse(self.rollout, self.algorithm)):
            raise ValueError(refused)
        if self.vllm.send == "trained" and self.vllm.weight_sync == "nccl":
            raise ValueError(
                "vllm.send='trained' with vllm.weight_sync='nccl': vLLM's own engine keeps no weights to merge others "
                "into; set weight_sync='gloo'"
            )
        if self.vllm.sleep and (refused := _what_sleep_refuses(self.rollout, self.vllm)):
            raise ValueError(refused)
        episode = self.rollout.prompts_per_step
        if self.algorithm.minibatches > episode:
            raise ValueError(
                f"algorithm.minibatches={self.algorithm.minibatches} exceeds rollout.prompts_per_step={episode}; "
                "a minibatch needs at least one prompt"
            )
        if self.algorithm.samples % self.rollout.group_size:
            raise ValueError(
                f"algorithm.samples={self.algorithm.samples} is no multiple of rollout.group_size="
                f"{self.rollout.group_size}: groups are sampled whole"
            )
        if self.stage == "ppo" and self.algorithm.token_share < 1:
            raise ValueError("algorithm.token_share is for GRPO: in PPO the critic gives each token its advantage")
        if self.algorithm.token_measure != "entropy" and self.algorithm.token_share == 1:
            raise ValueError(
                f"algorithm.token_measure={self.algorithm.token_measure!r} changes nothing with "
                "algorithm.token_share=1, which keeps every token"
            )
        if self.algorithm.loss != "clip" and self.algorithm.epochs * self.algorithm.minibatches == 1:
            raise ValueError(
                f"algorithm.loss={self.algorithm.loss!r} changes nothing with one gradient step per episode, where "
                "every ratio is 1; set algorithm.minibatches or algorithm.epochs above 1"
            )
        if not all(tau > 0 for tau in self.algorithm.sapo_temperatures):
            raise ValueError(f"algorithm.sapo_temperatures must be above 0, not {self.algorithm.sapo_temperatures}")
        for where, share in [
            *(("rollout.length_schedule", s) for s, _ in self.rollout.length_schedule),
            *(("algorithm.curriculum", s) for s, _ in self.algorithm.curriculum),
        ]:
            if not 0 <= share < 1:
                raise ValueError(f"{where} starts at share {share}; give the share of training done, 0 <= share < 1")
        return self

    @property
    def tools(self) -> ToolConfig:
        """What the stage's model may call."""
        return ToolConfig(environment=self.sft.environment) if self.stage == "sft" else self.rollout

    def as_table(self) -> dict[str, Any]:
        """The recipe as JSON values, without the sections that its stage does not read."""
        return self.model_dump(mode="json", exclude=set(FOREIGN[self.stage]))


def _what_bases_in_few_bits_refuse(recipe: Recipe) -> str:
    """What does not go with frozen weights in 4 or 8 bits, and what to set."""
    cluster = recipe.cluster
    if not recipe.lora.parts:
        return (
            "needs lora.parts: weights in few bits cannot learn, only adapters on them can; name parts, or set "
            "base='float32'"
        )
    if recipe.stage != "sft" and recipe.rollout.engine == "vllm":
        return (
            "does not go with rollout.engine='vllm', whose servers are sent merged weights in full; set "
            "engine='in_process', or base='float32'"
        )
    if cluster.trainers > 1 and cluster.shard != "none":
        return f"does not go with cluster.shard={cluster.shard!r}, which divides weights in full; set shard='none'"
    if cluster.sequence_parallel > 1:
        return "does not go with cluster.sequence_parallel, with which it was not tested; set it to 1"
    return ""


def _what_shared_sequences_refuse(recipe: Recipe) -> str:
    """What does not go with processes that share the tokens of each sequence, and what to set."""
    if recipe.cluster.trainers > 1 and recipe.cluster.trainers % recipe.cluster.sequence_parallel:
        return f"does not divide cluster.trainers={recipe.cluster.trainers}"
    if recipe.stage == "ppo":
        return "does not go with PPO, whose critic scores whole sequences"
    if recipe.optim.router_aux_coef:
        return "does not go with optim.router_aux_coef, which counts shares of whole sequences; set it to 0"
    if recipe.stage == "sft":
        return ""
    if recipe.optim.shared_prompt:
        return "does not go with shared prompts; set optim.shared_prompt=false"
    if recipe.algorithm.kl_beta:
        return "does not go with algorithm.kl_beta, whose reference scores whole sequences; set it to 0"
    if recipe.algorithm.token_measure == "image":
        return "does not go with algorithm.token_measure='image', which scores whole sequences; use 'entropy'"
    if recipe.rollout.environment is not None:
        return "does not go with rollout.environment, whose conversations it was not tested with"
    return ""


def _corrected(table: Any) -> Any:
    """Where vLLM samples, the mismatch between the engines is corrected by default."""
    if not isinstance(table, dict):
        return table
    rollout, algorithm = table.get("rollout"), table.get("algorithm")
    if not isinstance(rollout, dict) or rollout.get("engine") != "vllm" or not isinstance(algorithm, dict | None):
        return table
    return {**table, "algorithm": {"mismatch_correction": "token", **(algorithm or {})}}


def _what_vllm_refuses(rollout: RolloutConfig) -> str:
    if rollout.top_p < 1:
        return (
            f"rollout.top_p={rollout.top_p} with rollout.engine=vllm: the log-probs of a server are those of the "
            "tokens that top_p keeps, not of the policy that is trained; set top_p=1"
        )
    return f"rollout.temperature={rollout.temperature}: vLLM takes at most 2" if rollout.temperature > 2 else ""


def _what_rollouts_ahead_refuse(rollout: RolloutConfig, algorithm: AlgorithmConfig) -> str:
    if rollout.engine != "vllm":
        return (
            f"rollout.ahead={rollout.ahead} with rollout.engine='in_process': a process that trains cannot sample "
            "meanwhile; set engine='vllm' (docs/scale.md), or ahead=0"
        )
    if algorithm.samples:
        return (
            f"rollout.ahead={rollout.ahead} with algorithm.samples={algorithm.samples}: what is sampled ahead would go "
            "beyond the limit; set algorithm.steps in its place, or ahead=0"
        )
    if algorithm.mismatch_correction == "off":
        return (
            f"rollout.ahead={rollout.ahead} with algorithm.mismatch_correction='off': completions come from weights of "
            "one step before, which importance weights must make up for; set mismatch_correction='token', or ahead=0"
        )
    if rollout.environment is not None:
        return (
            f"rollout.ahead={rollout.ahead} with rollout.environment={rollout.environment!r}: the turns of a "
            "conversation are not sampled in the background; set ahead=0"
        )
    return ""


def _what_sleep_refuses(rollout: RolloutConfig, vllm: VllmConfig) -> str:
    if rollout.engine != "vllm":
        return f"vllm.sleep={vllm.sleep} is read with rollout.engine='vllm' alone: set it, or remove the key"
    if rollout.ahead:
        return (
            f"vllm.sleep={vllm.sleep} with rollout.ahead={rollout.ahead}: then servers sample while training; set "
            "one of the two to 0"
        )
    if vllm.weight_sync == "nccl":
        return (
            f"vllm.sleep={vllm.sleep} with vllm.weight_sync='nccl': NCCL joins no two processes on one GPU; set "
            "weight_sync='gloo'"
        )
    return ""


def _what_environments_refuse(rollout: RolloutConfig, algorithm: AlgorithmConfig, optim: OptimConfig) -> str:
    if rollout.environment is None:
        key = rollout.unread
        return f"rollout.{key} is read with rollout.environment alone: name one, or remove the key" if key else ""
    if rollout.environment == "zoom" and algorithm.token_measure == "image":
        return (
            "rollout.environment='zoom' with algorithm.token_measure='image': a grey picture in the place of the first "
            "one leaves the crops, which show it; set token_measure='entropy'"
        )
    if rollout.environment == "zoom" and optim.shared_prompt:
        return (
            "rollout.environment='zoom' with optim.shared_prompt=true: the pictures of later turns go through the "
            "model with the prompt, which differs from completion to completion; set optim.shared_prompt=false"
        )
    return ""
