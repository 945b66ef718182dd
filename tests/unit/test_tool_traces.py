"""Traces with calls: cut into turns, answered by the tool, learnt from as a conversation."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.nano import picture
from seethink.config import SftConfig
from seethink.core.errors import UserError
from seethink.core.types import Sample
from seethink.data.chat import Chat
from seethink.environments.calculator import Calculator
from seethink.environments.calls import CallError, turns_of
from seethink.environments.zoom import Zoom
from seethink.generate.conversations import played, played_length, refuse_environment
from seethink.models.load import load_chat
from seethink.rewards.rewarder import command_rewarder
from seethink.rl.batching import after_prompt
from seethink.train.sft import Traces
from seethink.train.traces import _verified

CALL = '<tool_call>{"name": "calculator", "arguments": {"expression": "17 * 3"}}</tool_call>'
LOOK = '<tool_call>{"name": "zoom", "arguments": {"box": [0, 0, 500, 500]}}</tool_call>'
FINAL = "<think>17 times 3 is 51.</think>The answer is 51."


@pytest.fixture(scope="module")
def chat() -> Chat:
    return load_chat("nano")


@pytest.mark.parametrize(
    ("trace", "turns"),
    [
        (FINAL, [FINAL]),
        (CALL + FINAL, [CALL, FINAL]),
        (f"So {CALL}\n<tool_response>1</tool_response>\n{FINAL}", [f"So {CALL}", FINAL]),
        (f"{CALL}<tool_response>1</tool_response>{CALL} {FINAL}", [CALL, CALL, FINAL]),
        (CALL, [CALL, ""]),
        (f"{CALL}a <tool_response> b", [CALL, "a <tool_response> b"]),
    ],
)
def test_a_call_ends_a_turn(trace: str, turns: list[str]) -> None:
    assert turns_of(trace) == turns


def test_a_trace_is_answered_by_the_tool_whatever_it_claims(chat: Chat) -> None:
    sample = Sample("s", "What is 17 * 3?", answer="51", response=f"{CALL}<tool_response>7</tool_response>{FINAL}")
    prompt = chat.prompt(sample)
    sequence = after_prompt(prompt, played(prompt, sample.response or "", Calculator(), chat))
    assert chat.tokenizer.decode(sequence.prompt_ids + sequence.response_ids) == (
        "<|im_start|>user\nWhat is 17 * 3?<|im_end|>\n<|im_start|>assistant\n"
        f"{CALL}<|im_end|>\n<|im_start|>user\n<tool_response>51</tool_response><|im_end|>\n<|im_start|>assistant\n"
        f"{FINAL}<|im_end|>"
    )
    assert chat.tokenizer.decode(sequence.own_ids) == f"{CALL}<|im_end|>{FINAL}<|im_end|>"


def test_crops_are_made_from_the_samples_own_picture(chat: Chat) -> None:
    prompt = chat.prompt(Sample("s", "What?", (picture(1),)))
    sequence = after_prompt(prompt, played(prompt, LOOK + FINAL, Zoom(), chat))
    assert len(sequence.reply_images) == 1
    assert played_length(prompt.sample, LOOK + FINAL, Zoom(), chat) == len(sequence)
    assert sequence.reply_images[0]["pixel_values"].shape == prompt.mm_kwargs["pixel_values"].shape


def test_a_call_that_fails_is_no_trace(chat: Chat) -> None:
    bad = CALL.replace("17 * 3", "17 * ")
    good = Sample("s", "What is 17 * 3?", answer="51", response=CALL + FINAL)
    prompt = chat.prompt(good)
    with pytest.raises(CallError, match="missing"):
        played(prompt, bad + FINAL, Calculator(), chat)
    broken = Sample("b", "What is 17 * 3?", answer="51", response=bad + FINAL)
    traces = Traces([good, broken], chat, 1000, "calculator")
    assert traces.samples(range(len(traces))) == [good]
    (sequence,) = traces.batch([0])
    assert sequence.weight == 1 / len(sequence.own_ids)
    assert len(Traces([good], chat, len(sequence) - 1, "calculator")) == 0


def test_a_trace_is_verified_by_its_final_turn(chat: Chat, tmp_path: Path) -> None:
    right = Sample("r", "What is 17 * 3?", answer="51", response=CALL + FINAL)
    wrong = Sample("w", "What is 17 * 3?", answer="52", response=CALL + FINAL)
    shapeless = Sample("f", "What is 17 * 3?", answer="51", response=CALL + "The answer is 51.")
    with command_rewarder(None) as rewarder:
        kept, report = _verified([right, wrong, shapeless], SftConfig(environment="calculator"), rewarder, chat)
    assert kept == [right]
    assert report.dropped == {"wrong_answer": 1, "bad_format": 1}


def test_a_tokenizer_that_drops_calls_is_refused(chat: Chat) -> None:
    refuse_environment(chat, Calculator())
    deaf = load_chat("nano")
    deaf.tokenizer.add_special_tokens({"additional_special_tokens": ["<tool_call>"]})
    with pytest.raises(UserError, match="no call could be read"):
        refuse_environment(deaf, Calculator())
    one = load_chat("nano")
    one.max_images = 1
    refuse_environment(one, Calculator())
    with pytest.raises(UserError, match="takes at most 1"):
        refuse_environment(one, Zoom())
