"""Episodes of several turns: the model writes, an environment answers, the model goes on.

Every turn is a response to a prompt of its own, which holds the whole conversation so far: the very ids that were
sampled, never the text tokenized again, and between them what the chat template writes. So the log-probs of a turn are
those of its tokens after exactly the ids that the trainer's forward sees.

Letters: P prompts, G completions per prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from seethink.config import ToolConfig
from seethink.core.errors import UserError
from seethink.core.types import Completion, Prompt, Reply, Sample
from seethink.data.chat import Chat, after_turn
from seethink.environments.calls import OPEN, CallError, turns_of
from seethink.environments.make import ENVIRONMENTS
from seethink.environments.protocol import Environment, Step
from seethink.generate.protocol import Generator, Sampling
from seethink.models.padding import join_images

TURNS = 4
"""Of the model in an episode, where a recipe says nothing else."""


@dataclass(slots=True)
class _Conversation:
    """One completion while it grows."""

    place: int
    """p * G + g: where the conversation stands among all, which seeds its turns."""
    environment: Environment
    prompt: Prompt
    """Of the turn that comes next: all that was said before."""
    turns: list[Completion] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    reward: float = 0.0
    goes_on: bool = True

    @property
    def written(self) -> int:
        """The model's tokens so far."""
        return sum(len(turn.token_ids) for turn in self.turns)

    def answer(self, step: Step, chat: Chat) -> None:
        """Put the environment's turn behind the model's."""
        before, said = self.prompt, self.turns[-1].token_ids
        ids, mm_kwargs = chat.reply(step.text, step.images)
        ids = after_turn(said, ids)
        text = chat.without_special_tokens(step.text)
        reply = Reply(self.written, ids, text, step.images, mm_kwargs, failed=step.failed)
        whole = [*before.input_ids, *said, *ids]
        tensors = join_images([before.mm_kwargs, mm_kwargs]) if mm_kwargs else before.mm_kwargs
        turns = (*before.turns, (said, reply))
        self.prompt = Prompt(before.sample, whole, tensors, chat.positions(whole, tensors), turns)
        self.replies.append(reply)

    def room(self, limit: int, context: int | None) -> int:
        """Tokens that the next turn may have: `limit` for the model's in all, `context` for everything together."""
        left = limit - self.written
        return left if context is None else min(left, context - len(self.prompt.input_ids))


class ConversationGenerator:
    """A Generator whose completions are whole conversations with an environment.

    The turns are sampled by another generator, all conversations of a batch together; every rank answers all of them
    alike. Log-probs, entropies and token ids of a completion are those of the model's tokens, turn after turn.
    """

    def __init__(
        self,
        own: Generator,
        chat: Chat,
        make: Callable[[], Environment],
        *,
        turns: int | None = None,
        turn_tokens: int | None = None,
    ) -> None:
        """`turns` are the most turns of the model (default: 4), `turn_tokens` the most tokens of one (default: those of
        the whole conversation). Raises UserError where the model cannot take the environment's turns."""
        self._own, self._chat, self._make = own, chat, make
        self._turns, self._turn_tokens = turns or TURNS, turn_tokens
        refuse_environment(chat, make())
        self.on_reply: Callable[[Step], None] | None = None
        """Called with each answer of an environment that the model goes on from, for a chat to show."""

    @property
    def policy_version(self) -> int:
        return self._own.policy_version

    @policy_version.setter
    def policy_version(self, version: int) -> None:
        self._own.policy_version = version

    def generate(
        self,
        prompts: Sequence[Prompt],
        group_size: int,
        sampling: Sampling,
        seed: tuple[int, ...],
        progress: Callable[[int], None] | None = None,
        *,
        places: Sequence[int] | None = None,
    ) -> list[list[Completion]]:
        """As `Generator.generate`, where `sampling.max_new_tokens` bounds the model's tokens of all turns together.

        The random numbers of turn t > 0 are a function of (seed, t, p, g) alone, and those of the first turn are
        those of an episode of one turn.
        """
        numbers = range(len(prompts)) if places is None else places
        groups = [
            [_Conversation(number * group_size + g, self._reset(prompt), prompt) for g in range(group_size)]
            for number, prompt in zip(numbers, prompts, strict=True)
        ]
        everyone = [conversation for group in groups for conversation in group]
        longest = self._turn(sampling, everyone)
        first = self._own.generate(prompts, group_size, longest, seed, progress, places=places)
        self._take(everyone, [completion for group in first for completion in group], sampling, last=False)
        for turn in range(1, self._turns):
            active = [conversation for conversation in everyone if conversation.goes_on]
            if not active:
                break
            said = self._own.generate(
                [conversation.prompt for conversation in active],
                1,
                self._turn(sampling, active),
                (*seed, turn),
                places=[conversation.place for conversation in active],
            )
            self._take(active, [group[0] for group in said], sampling, last=turn == self._turns - 1)
        return [[_completed(conversation) for conversation in group] for group in groups]

    def load_weights(self, version: int) -> None:
        self._own.load_weights(version)

    def close(self) -> None:
        self._own.close()

    def _reset(self, prompt: Prompt) -> Environment:
        environment = self._make()
        environment.reset(prompt.sample)
        return environment

    def _turn(self, sampling: Sampling, active: Sequence[_Conversation]) -> Sampling:
        """How to sample a turn of all of them: as long as the one with most room may be. `_cut` cuts the others."""
        room = max((c.room(sampling.max_new_tokens, self._chat.context) for c in active), default=1)
        return replace(sampling, max_new_tokens=min(room, self._turn_tokens or room))

    def _take(
        self, conversations: list[_Conversation], said: list[Completion], sampling: Sampling, *, last: bool
    ) -> None:
        """Note what the model said, and let the environments answer it unless the conversation is over."""
        for conversation, turn in zip(conversations, said, strict=True):
            turn = self._cut(turn, conversation.room(sampling.max_new_tokens, self._chat.context))
            conversation.turns.append(turn)
            step = None if turn.truncated else conversation.environment.step(turn.text)
            conversation.reward += step.reward if step else 0.0
            conversation.goes_on = step is not None and not step.done and not last
            if step and conversation.goes_on:
                self._reply(conversation, step, sampling)

    def _cut(self, turn: Completion, room: int) -> Completion:
        """The turn's first `room` tokens."""
        if len(turn.token_ids) <= room:
            return turn
        ids = turn.token_ids[:room]
        kept = {name: getattr(turn, name)[:room] for name in ("generator_logprobs", "entropies", "watched_mass")}
        return replace(turn, token_ids=ids, text=self._chat.decode(ids), truncated=True, **kept)

    def _reply(self, conversation: _Conversation, step: Step, sampling: Sampling) -> None:
        """Put the environment's turn behind the model's. Where no room is left for an answer, the conversation ends as
        truncated."""
        before = conversation.prompt
        conversation.answer(step, self._chat)
        if conversation.room(sampling.max_new_tokens, self._chat.context) < 1:
            conversation.replies.pop()
            conversation.prompt, conversation.goes_on = before, False
            conversation.turns[-1] = replace(conversation.turns[-1], truncated=True)
        elif self.on_reply is not None:
            self.on_reply(step)


def with_environment(tools: ToolConfig, own: Generator, chat: Chat) -> Generator:
    """`own`, or what samples conversations with it where `tools` names an environment. Raises UserError."""
    if tools.environment is None:
        return own
    make = ENVIRONMENTS[tools.environment]
    return ConversationGenerator(own, chat, make, turns=tools.turns, turn_tokens=tools.turn_tokens)


def introduced(tools: ToolConfig, chat: Chat) -> Chat:
    """The chat whose prompts say how to call the environment, where `tools` names one."""
    return chat if tools.environment is None else chat.introduced(ENVIRONMENTS[tools.environment]().instructions)


def played(prompt: Prompt, trace: str, environment: Environment, chat: Chat) -> Completion:
    """A trace as a conversation: its turns, and between them what the environment answers to its calls.

    Raises CallError where one of the calls cannot be carried out.
    """
    conversation = _Conversation(0, environment, prompt)
    for text, step in _steps(prompt.sample, trace, environment):
        conversation.turns.append(Completion(chat.response_ids(text), [], [], text, False, 0))
        if step is not None:
            conversation.answer(step, chat)
    return _completed(conversation)


def played_length(sample: Sample, trace: str, environment: Environment, chat: Chat) -> int:
    """Tokens of prompt and conversation, without processing a picture. Raises CallError as `played` does."""
    total = chat.prompt_length(sample)
    for text, step in _steps(sample, trace, environment):
        total += len(chat.response_ids(text)) + (chat.reply_length(step.text, step.images) if step else 0)
    return total


def _steps(sample: Sample, trace: str, environment: Environment) -> Iterator[tuple[str, Step | None]]:
    """The model's turns in a trace, each with the environment's answer; None after the last."""
    environment.reset(sample)
    *calls, last = turns_of(trace)
    for text in calls:
        step = environment.step(text)
        if step.failed or step.done:
            raise CallError(step.text)
        yield text, step
    yield last, None


def _completed(conversation: _Conversation) -> Completion:
    """The model's side of a conversation as one completion."""
    turns = conversation.turns
    if len(turns) == 1:
        return replace(turns[0], environment_reward=conversation.reward)
    return Completion(
        token_ids=[token for turn in turns for token in turn.token_ids],
        generator_logprobs=[value for turn in turns for value in turn.generator_logprobs],
        entropies=[value for turn in turns for value in turn.entropies],
        text=turns[-1].text,
        truncated=turns[-1].truncated,
        policy_version=turns[-1].policy_version,
        watched_mass=[value for turn in turns for value in turn.watched_mass],
        replies=conversation.replies,
        rope_ids=conversation.prompt.rope_ids,
        environment_reward=conversation.reward,
    )


def refuse_environment(chat: Chat, environment: Environment) -> None:
    """Raises UserError where the model cannot take the environment's turns."""
    if environment.gives_images and chat.max_images is not None:
        raise UserError(
            f"rollout.environment: its replies hold pictures, and this model takes at most {chat.max_images}; choose "
            "a model that takes several, or an environment without pictures"
        )
    if OPEN not in chat.decode(chat.response_ids(OPEN)[:-1]):
        raise UserError(
            f"rollout.environment: {OPEN} is a special token of this model's tokenizer, which texts leave out, so "
            "that no call could be read; make it an ordinary token, or choose another model"
        )
    chat.reply("tried")
