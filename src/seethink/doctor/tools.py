"""The environment of a recipe: whether the model can take its turns, and how many tokens they need."""

from __future__ import annotations

from PIL import Image

from seethink.config import Recipe
from seethink.data.chat import Chat
from seethink.doctor.check import Report, Status
from seethink.environments.make import ENVIRONMENTS
from seethink.environments.zoom import MAX_SIDE
from seethink.generate.conversations import TURNS, refuse_environment

SECTION = "tools"
SAID = "<tool_response>about 0.123456789012</tool_response>"


def check_tools(report: Report, recipe: Recipe, chat: Chat) -> None:
    """Raises UserError where the model cannot take the turns of the recipe's environment."""
    name = recipe.tools.environment
    if name is None:
        return
    environment = ENVIRONMENTS[name]()
    refuse_environment(chat, environment)
    told = len(chat.tokenizer(environment.instructions)["input_ids"])
    reply = reply_tokens(recipe, chat)
    turns = recipe.rollout.turns or TURNS
    said = f"{name}: its instructions take {told} tokens of every prompt, a reply up to about {reply:,}, {turns} turns"
    report.add(SECTION, "environment", Status.PASS, said, instructions=told, reply=reply)


def reply_tokens(recipe: Recipe, chat: Chat) -> int:
    """Tokens of a long reply, its picture included; 0 without an environment."""
    name = recipe.tools.environment
    if name is None:
        return 0
    pictures = [Image.new("RGB", (MAX_SIDE, MAX_SIDE))] if ENVIRONMENTS[name]().gives_images else []
    return chat.reply_length(SAID, pictures)
