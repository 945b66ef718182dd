"""The protocol against a real OpenAI-compatible server: `transformers serve` with a tiny random model.

The model's answers are noise, so there are no verdicts to expect; what must hold is that the server takes our
requests, that noise is never a verdict, and that killing and restarting the server is survived.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from seethink.core.types import Verdict
from seethink.models import torchvision_shim  # noqa: F401  (must come before transformers' models)
from seethink.rewards.verifier.verifier import Verifier, VerifierConfig, VerifierRefusedError, VerifyItem

pytestmark = pytest.mark.slow

_CHAT_TEMPLATE = """\
{% for message in messages %}<|im_start|>{{ message['role'] }}
{{ message['content'] }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
_SERVE = """\
from seethink.models import torchvision_shim
from transformers.cli.transformers import main
main()"""
_LINES = [
    "The candidate is equivalent to the reference.",
    "VERDICT: DIFFERENT",
    "How many balls? 1 2 3 4 5 6 7 8 9",
]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer Qwen2 with random weights and a byte-level tokenizer trained on three lines."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, set_seed

    folder = tmp_path_factory.mktemp("tiny-judge")
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        _LINES, trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet)
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = _CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    set_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=4096,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(model: Path, port: int, log: Path) -> Iterator[None]:
    """`transformers serve` on loopback, ready when entered and gone when left."""
    for package in ("fastapi", "uvicorn", "requests", "accelerate"):
        pytest.importorskip(package)
    command = [sys.executable, "-c", _SERVE, "serve", str(model)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        wait_until_healthy(process, port, log)
        yield
    finally:
        process.kill()
        process.wait()


def wait_until_healthy(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise AssertionError(f"no server after 120 s: {log.read_text()}")


def items(name: str, count: int) -> list[VerifyItem]:
    return [VerifyItem(f"How many balls, {name} {place}?", gold="7", extracted="seven </s>") for place in range(count)]


def test_noise_is_never_a_verdict_and_a_killed_server_is_survived(model_folder: Path, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "server.log"
    config = VerifierConfig(
        base_url=f"http://127.0.0.1:{port}/v1",
        model=str(model_folder),
        max_concurrency=4,
        max_retries=1,
        max_tokens=16,
        call_timeout_s=60,
        on_down="rule_only",
        canary_every=100,
    )
    with Verifier(config, tmp_path) as verifier:
        with serving(model_folder, port, log):
            grades = verifier.verify(items("first", 8))
            metrics = verifier.metrics()
        assert all(grade and grade.verdict in (Verdict.WRONG, Verdict.ERROR) for grade in grades)
        assert metrics["verifier/latency_median_s"] > 0, log.read_text()
        assert metrics["verifier/down_s"] == 0
        # Readable replies, unreadable verdicts: the errors are the model's, not the protocol's.
        assert {grade.reason for grade in grades if grade and grade.verdict is Verdict.ERROR} <= {
            "verifier: cut off",
            "verifier: no single verdict in the last line",
        }
        assert verifier.verify(items("while down", 8)) == [None] * 8
        with serving(model_folder, port, log):
            deadline = time.monotonic() + 40
            while (grade := verifier.verify(items("again", 1))[0]) is None and time.monotonic() < deadline:
                time.sleep(0.5)
        assert grade is not None
        assert grade.verdict in (Verdict.WRONG, Verdict.ERROR)


def test_a_wrong_address_stops_at_the_first_request(model_folder: Path, tmp_path: Path) -> None:
    port = free_port()
    config = VerifierConfig(base_url=f"http://127.0.0.1:{port}/wrong", model="judge")
    with (
        serving(model_folder, port, tmp_path / "server.log"),
        Verifier(config) as verifier,
        pytest.raises(VerifierRefusedError, match="HTTP 404"),
    ):
        verifier.verify(items("any", 1))
