"""Every recipe key, with its meaning and its check. Imports no torch, so that `--dry-run` and editors are quick.

A recipe is a TOML file; `key=value` words on the command line override it (`optim.lr=1e-6`). Unknown keys are refused.
The resolved recipe is saved with the run. Each section is an object of its own that a caller can pass alone.
"""

from seethink.config.cluster import ClusterConfig
from seethink.config.data import MAX_PIXELS, DataConfig, ReadConfig
from seethink.config.endpoint import EndpointConfig
from seethink.config.guards import BlindnessConfig, Watchdog, WatchdogAction, WatchdogsConfig
from seethink.config.load import (
    RecipeError,
    apply_override,
    explain,
    load_recipe,
    make_reading,
    make_recipe,
    make_reward,
    make_tools,
    make_verifier,
    recipe_keys,
    saved_recipe,
    split_names,
)
from seethink.config.mixture import MIXTURE, MixtureSource
from seethink.config.optim import OptimConfig
from seethink.config.output import CheckpointConfig, EvalConfig, LogConfig
from seethink.config.parts import LoraConfig, PartModules, PartsConfig, part_lr
from seethink.config.recipe import FOREIGN, Recipe, Stage, explain_foreign, foreign_sections
from seethink.config.reward import RewardConfig
from seethink.config.rl import AlgorithmConfig, Difficulty, PpoConfig, RolloutConfig
from seethink.config.section import PARTS, Part, Section
from seethink.config.sft import SftConfig
from seethink.config.tools import EnvironmentName, ToolConfig
from seethink.config.verifier import VerifierConfig
from seethink.config.vllm import VllmConfig

__all__ = [
    "FOREIGN",
    "MAX_PIXELS",
    "MIXTURE",
    "PARTS",
    "AlgorithmConfig",
    "BlindnessConfig",
    "CheckpointConfig",
    "ClusterConfig",
    "DataConfig",
    "Difficulty",
    "EndpointConfig",
    "EnvironmentName",
    "EvalConfig",
    "LogConfig",
    "LoraConfig",
    "MixtureSource",
    "OptimConfig",
    "Part",
    "PartModules",
    "PartsConfig",
    "PpoConfig",
    "ReadConfig",
    "Recipe",
    "RecipeError",
    "RewardConfig",
    "RolloutConfig",
    "Section",
    "SftConfig",
    "Stage",
    "ToolConfig",
    "VerifierConfig",
    "VllmConfig",
    "Watchdog",
    "WatchdogAction",
    "WatchdogsConfig",
    "apply_override",
    "explain",
    "explain_foreign",
    "foreign_sections",
    "load_recipe",
    "make_reading",
    "make_recipe",
    "make_reward",
    "make_tools",
    "make_verifier",
    "part_lr",
    "recipe_keys",
    "saved_recipe",
    "split_names",
]
