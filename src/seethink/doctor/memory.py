"""How much memory a stage takes, before a GPU is used.

Exact: weights, gradients, AdamW's moments, the start copy, from the model on the meta device. Estimated: activations,
logits and caches, by the formulas below (the tests compare them with what the nano model takes: within a factor of
two). All of it is that of one process; `sharded` says what changes where several share the weights.

What backward keeps of a decoder layer, in elements a token, H the hidden width, Q heads x head width, I the inner
width: two norms keep their input and their output (4 H, float32 even in bfloat16 training), the linear layers their
inputs (2 H), attention its queries, keys and values spread over the heads and its output twice (5 Q), the gated MLP
gate, activation, up and their product (4 I; 2 I without a gate). With gradient checkpointing only a layer's input
remains (H), and one layer at a time is whole. A part backward does not reach, a frozen vision tower, keeps nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from seethink.config import PARTS, Part, Recipe
from seethink.generate.in_process.generator import PREFILL_ROWS
from seethink.models.logprobs import LOGITS
from seethink.models.parts import split_parts
from seethink.models.quantized import count_bytes, largest_restored
from seethink.models.units import unit_sizes
from seethink.rl.prompt_groups import PROMPTS_SHARE
from seethink.runs.moments import moments_bytes

LOGIT_COPIES = 6
"""Float32 tensors of [positions, vocabulary] at once: scaled, masked, normalised, their exponential, two gradients."""
DECODE_COPIES = 8
"""The same while sampling, in float32 widths: logits, log-probs, probabilities, and cumulated ones in float64."""
RESERVE = 0.9
"""Share of a card that is planned with: context, libraries and fragmentation take the rest."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a transformer's layers."""

    layers: int
    hidden: int
    inner: int
    attention: int
    """Heads x head width."""
    cached: int
    """Key-value heads x head width."""
    gated: bool

    def kept(self, compute_bytes: int) -> int:
        """Bytes a token that backward needs of one layer."""
        mlp = (4 if self.gated else 2) * self.inner
        return 16 * self.hidden + compute_bytes * (2 * self.hidden + 5 * self.attention + mlp)


@dataclass(frozen=True, slots=True)
class Load:
    """What the data ask for, in tokens; made from measured prompts where there are some."""

    prompt: int
    """The longest prompt, image tokens included."""
    mean_prompt: float
    image_tokens: float
    """Mean image tokens of a prompt."""
    response: int
    """The longest response."""
    vision_per_image_token: float
    """Patches that the vision encoder sees for each token that the language model gets."""


@dataclass(frozen=True, slots=True)
class PartMemory:
    weights: int
    gradients: int
    optimizer: int
    start_copy: int
    activations: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes, by what they are for."""

    parts: dict[Part, PartMemory]
    casts: int
    """Copies of the weights in the compute dtype: those that autocast keeps for a forward and backward, or the whole
    ones that are gathered from the ranks' shares; and the weight that a layer in few bits restores."""
    reference: int
    critic: int
    logits: int
    mask: int
    rollout: int
    """Cache of keys and values, and the logits of a decoding step; 0 for SFT, and where vLLM samples."""
    micro_tokens: int
    gathered: int = 0
    """Whole weights while sampling, where the ranks share them."""
    offloaded: int = 0
    """AdamW's moments, where they rest in main memory."""
    snapshot: int = 0
    """The copy in main memory of which a checkpoint is written beside training; of rank 0, which writes the weights."""
    notes: list[str] = field(default_factory=list)

    def _sum(self, name: str) -> int:
        return sum(int(getattr(part, name)) for part in self.parts.values())

    @property
    def fixed(self) -> int:
        return self._sum("weights") + self._sum("optimizer") + self.reference + self.critic

    @property
    def training(self) -> int:
        """On top of `fixed`, in the backward of one micro-batch."""
        return self._sum("gradients") + self._sum("activations") + self.casts + self.logits + self.mask

    @property
    def device(self) -> int:
        """The peak on the GPU: rollouts have neither gradients nor activations."""
        return self.fixed + max(self.training, self.sampling)

    @property
    def sampling(self) -> int:
        """On top of `fixed`, while completions are sampled."""
        return self.rollout + self.gathered if self.rollout else 0

    @property
    def host(self) -> int:
        """Main memory for the proof of parts, for moments that rest there, and for a checkpoint's copy."""
        return self._sum("start_copy") + self.offloaded + self.snapshot

    @property
    def step(self) -> int:
        """One forward and backward on the CPU, without an optimizer step: weights twice, gradients, activations."""
        return self._sum("weights") + self._sum("start_copy") + self.training


def estimate(model: nn.Module, recipe: Recipe, load: Load) -> Estimate:
    """`model` has its parts frozen as the recipe says, and its adapters; it may be on the meta device."""
    half = recipe.dtype == "bfloat16"
    tokens, width = micro_batch(recipe, load)
    parts = split_parts(model)
    shared = -(-tokens // tokens_together(recipe))
    seen = dict.fromkeys(PARTS, shared) | {"vision": vision_tokens(load, tokens)}
    shapes = shapes_of(model)
    memory: dict[Part, PartMemory] = {}
    states, moments = recipe.optim.states, 0
    for part, named in parts.items():
        learning = [p for p in named.values() if p.requires_grad]
        trained = 4 * sum(p.numel() for p in learning)
        whole = count_bytes(model, named)
        kept = 0
        if part == "language" or (part == "vision" and learning):
            kept = _activations(shapes[part], seen[part], recipe.optim.gradient_checkpointing, half)
        own = sum(moments_bytes(p.shape, states) for p in learning) + 4 * len(learning)
        moments += own
        memory[part] = PartMemory(whole, trained, own if states != "cpu" else 0, whole, kept)
    every = sum(part.weights for part in memory.values())
    config: Any = model.config
    vocabulary = int(config.get_text_config().vocab_size)
    whole_run = Estimate(
        parts=memory,
        casts=(every // 2 if half else 0) + largest_restored(model) * (3 if half else 2) // 2,
        reference=every if recipe.stage != "sft" and recipe.algorithm.kl_beta > 0 else 0,
        critic=16 * (shapes["language"].hidden ** 2 + 2 * shapes["language"].hidden) if recipe.stage == "ppo" else 0,
        logits=4 * LOGIT_COPIES * min(max(LOGITS, vocabulary), shared * vocabulary),
        mask=tokens * width * (2 if half else 4),
        rollout=rollout_bytes(recipe, load, shapes["language"], vocabulary) if _samples_here(recipe) else 0,
        micro_tokens=tokens,
        offloaded=moments if states == "cpu" else 0,
        snapshot=sum(part.gradients for part in memory.values()) + moments if recipe.checkpoint.asynchronous else 0,
    )
    return sharded(whole_run, model, recipe)


def _samples_here(recipe: Recipe) -> bool:
    return recipe.stage != "sft" and recipe.rollout.engine == "in_process"


def ranks_per_copy(recipe: Recipe) -> int:
    """How many processes share one copy of the weights."""
    cluster = recipe.cluster
    return 1 if cluster.shard == "none" else max(1, cluster.trainers // cluster.replicas)


def tokens_together(recipe: Recipe) -> int:
    """How many processes share the tokens of each sequence, from the first decoder layer on."""
    return recipe.cluster.sequence_parallel if recipe.cluster.trainers > 1 else 1


def sharded(found: Estimate, model: nn.Module, recipe: Recipe) -> Estimate:
    """The estimate of one of the ranks that share the weights (dist/sharding.py).

    Each has its share of weights, moments and summed gradients. ZeRO-2 has whole weights in the compute dtype and whole
    float32 gradients besides, until the step's end; ZeRO-3 those of embeddings and head, and of two layers at a time.
    """
    ranks = ranks_per_copy(recipe)
    if ranks == 1:
        return found
    width = 2 if recipe.dtype == "bfloat16" else 4
    every, zero2 = sum(part.weights for part in found.parts.values()) // 4, recipe.cluster.shard == "zero2"
    sizes = unit_sizes(model)
    at_once = every if zero2 else every - sum(sizes) + 2 * max(sizes, default=0)
    parts = {
        part: PartMemory(
            weights=memory.weights // ranks,
            gradients=memory.gradients // ranks + (memory.gradients if zero2 else memory.gradients * at_once // every),
            optimizer=memory.optimizer // ranks,
            start_copy=memory.start_copy // ranks,
            activations=memory.activations,
        )
        for part, memory in found.parts.items()
    }
    moments = found.snapshot - sum(memory.gradients for memory in found.parts.values())
    return replace(
        found,
        parts=parts,
        casts=at_once * width,
        gathered=every * width,
        offloaded=found.offloaded // ranks,
        snapshot=4 * every + moments // ranks if recipe.checkpoint.asynchronous else 0,
    )


def micro_batch(recipe: Recipe, load: Load) -> tuple[int, int]:
    """(tokens of the largest micro-batch, width of its rows). One long sequence may exceed `optim.micro_tokens`."""
    longest = load.prompt + load.response
    if recipe.stage == "sft":
        longest = min(longest, recipe.sft.max_length)
        sequences: float = recipe.sft.batch_size
    else:
        sequences = recipe.rollout.prompts_per_step * recipe.rollout.group_size / recipe.algorithm.minibatches
        if recipe.optim.shared_prompt:
            return _shared_batch(recipe, load, sequences), longest
    tokens = min(max(recipe.optim.tokens_on("cpu"), longest), int(sequences * longest) + 1)
    return tokens, min(max(recipe.optim.pack_length, longest), tokens)


def _shared_batch(recipe: Recipe, load: Load, sequences: float) -> int:
    """Prompts stay alive, once each, while their responses go through; both have their budget (rl/prompt_groups.py).

    Where prompts are copied for their responses (models/prefix_attention.py) fewer of these share a micro-batch.
    """
    budget = recipe.optim.tokens_on("cpu")
    prompts = min(max(budget // PROMPTS_SHARE, load.prompt), round(sequences / recipe.rollout.group_size * load.prompt))
    rows = min(max(1, budget // load.response), round(sequences))
    return prompts + rows * load.response


def vision_tokens(load: Load, tokens: int) -> int:
    """Patches in a micro-batch of so many tokens, prompts as usual and responses at half their limit."""
    usual = load.mean_prompt + load.response / 2
    return round(tokens * load.image_tokens / max(usual, 1.0) * load.vision_per_image_token)


def rollout_bytes(recipe: Recipe, load: Load, shape: Shape, vocabulary: int) -> int:
    """Keys and values of all rows at full length, and the logits of one step."""
    settings = recipe.rollout
    prompts = min(PREFILL_ROWS, max(1, settings.max_rows // settings.group_size), settings.prompts_per_step)
    rows = prompts * settings.group_size
    width = 2 if recipe.dtype == "bfloat16" else 4
    a_token = 2 * shape.layers * shape.cached * width
    cache = rows * (load.prompt + load.response) * a_token + prompts * load.prompt * a_token
    return cache + rows * vocabulary * 4 * DECODE_COPIES


def longest_response(recipe: Recipe) -> int:
    if recipe.stage == "sft":
        return recipe.sft.max_response_tokens
    return max([recipe.rollout.max_new_tokens, *(length for _, length in recipe.rollout.length_schedule)])


def _activations(shape: Shape, tokens: int, checkpointing: bool, half: bool) -> int:
    whole = tokens * shape.kept(2 if half else 4)
    if checkpointing:
        return tokens * shape.layers * shape.hidden * 4 + whole
    return shape.layers * whole + tokens * shape.hidden * 4


def shapes_of(model: Any) -> dict[str, Shape]:
    """Of the vision encoder and of the language model."""
    names = {part: list(named) for part, named in split_parts(model).items()}
    text = model.config.get_text_config()
    vision = getattr(model.config, "vision_config", text)
    return {"language": _shape(text, names["language"]), "vision": _shape(vision, names["vision"])}


def _shape(config: Any, names: list[str]) -> Shape:
    """Configurations name the same things differently."""
    hidden = int(_first(config, ("hidden_size", "embed_dim", "d_model"), 1024))
    heads = int(_first(config, ("num_attention_heads", "num_heads", "n_heads"), 16))
    head = int(_first(config, ("head_dim",), hidden // max(heads, 1)))
    return Shape(
        layers=int(_first(config, ("num_hidden_layers", "depth", "n_layers"), 24)),
        hidden=hidden,
        inner=int(_first(config, ("intermediate_size", "ffn_dim", "mlp_dim"), 4 * hidden)),
        attention=heads * head,
        cached=int(_first(config, ("num_key_value_heads",), heads)) * head,
        gated=any("gate" in name for name in names),
    )


def _first(config: Any, names: tuple[str, ...], default: int) -> Any:
    found = (getattr(config, name, None) for name in names)
    return next((value for value in found if isinstance(value, int) and value > 0), default)
