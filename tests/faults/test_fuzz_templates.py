"""Fuzzed chat templates: a checkpoint's Jinja program writes a prompt or is a clear error; it never hangs or acts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.fuzzing import fuzz, harmless, keeping, kept
from helpers.nano import GOLDEN, make_samples
from seethink.core.errors import UserError
from seethink.data import template as trial
from seethink.data import template_trial
from seethink.data.chat import Chat
from seethink.data.template import TemplateError
from seethink.models.load import load_model
from seethink.pretrain.nano import build_processor

pytestmark = pytest.mark.slow
PIECES = """
{{ |}}|{%|%}|{#|#}|{% for m in messages %}|{% endfor %}|{% if add_generation_prompt %}|{% endif %}|{{ m }}
{{ m.content }}|{{ m['role'] }}|{{ raise_exception('no') }}|{{ ''.__class__.__mro__ }}|{{ cycler.__init__.__globals__ }}
{% set a = [] %}|{% include '/etc/passwd' %}|{% import 'os' as o %}|{{ 1/0 }}|{{ x.y.z }}|{{ a.append(1) }}
{% macro f() %}|{% endmacro %}|{{ f() }}|{% break %}|{{ strftime_now('%') }}|{{ lipsum() }}|{{ range(10) }}
{% generation %}|{{ namespace(a=1) }}|<image>
""".replace("\n", "|").split("|")
TEMPLATES = st.lists(st.sampled_from(PIECES) | st.text(max_size=6), max_size=12).map("".join)
LOOP = "{% for a in range(99999) %}"
ENDLESS = [3 * LOOP + 3 * "{% endfor %}", "{{ 9 ** (9 ** 9) }}"]
DOUBLE = "{% set n = namespace(a='a') %}{% for i in range(60) %}{% set n.a = n.a + n.a %}{% endfor %}"
HUGE = ["{{ 'a' * 4000000000 }}", DOUBLE]


def chat_with(template: str) -> Chat:
    from transformers import AutoTokenizer

    processor = build_processor(AutoTokenizer.from_pretrained(GOLDEN / "tokenizer"))
    processor.chat_template = template
    return Chat(processor)


@pytest.fixture(scope="module")
def chat() -> Chat:
    made = chat_with("x")
    made.refuse_endless_template()  # starts the process that tries templates, before a test forbids to start one
    return made


def write(data: bytes, chat: Chat, folder: Path) -> None:
    """The property, for a question with and without an image."""
    chat.processor.chat_template = data.decode("utf-8", "surrogatepass")
    chat.template_owner = chat.processor
    for sample in make_samples([1, 0]):
        with harmless(folder):
            try:
                assert isinstance(chat.template_text(sample), str)
            except UserError as error:
                assert "chat template" in str(error)  # noqa: PT017


@given(template=TEMPLATES)
@fuzz(100, 2000)
def test_any_template(chat: Chat, tmp_path_factory: pytest.TempPathFactory, template: str) -> None:
    data = template.encode("utf-8", "surrogatepass")
    with keeping("templates", data):
        write(data, chat, tmp_path_factory.getbasetemp())


@pytest.mark.parametrize("data", kept("templates"))
def test_kept_templates(data: bytes, chat: Chat, tmp_path: Path) -> None:
    write(data, chat, tmp_path)


def test_the_trial_renders_as_transformers_does() -> None:
    """A template must not pass the trial because something that it uses is missing there."""
    from transformers.utils.chat_template_utils import _compile_jinja_template

    theirs, ours = _compile_jinja_template("").environment, template_trial.environment()
    assert {tag for e in ours.extensions.values() for tag in e.tags} == {
        tag for e in theirs.extensions.values() for tag in e.tags
    }
    assert (ours.filters.keys(), ours.globals.keys()) == (theirs.filters.keys(), theirs.globals.keys())
    assert (ours.tests.keys(), type(ours)) == (theirs.tests.keys(), type(theirs))
    assert (ours.trim_blocks, ours.lstrip_blocks) == (theirs.trim_blocks, theirs.lstrip_blocks)
    text = "{% for m in [1, 2] %}{% generation %}{{ {'a': m} | tojson }}{% endgeneration %}{% break %}{% endfor %}"
    assert ours.from_string(text).render() == theirs.from_string(text).render() == '{"a": 1}'


@pytest.mark.parametrize("text", ["{{ messages[0].content", "{{ raise_exception('no') }}", "{{ eos_token }}"])
def test_a_template_that_ends_passes_the_trial(text: str) -> None:
    chat_with(text).refuse_endless_template()


@pytest.mark.slow
@pytest.mark.parametrize("template", ENDLESS)
def test_a_template_without_an_end_is_refused(template: str) -> None:
    with pytest.raises(TemplateError, match="does not end"):
        chat_with(template).refuse_endless_template()


@pytest.mark.parametrize("template", HUGE)
def test_a_template_that_takes_all_memory_is_refused(template: str) -> None:
    with pytest.raises(TemplateError, match="takes over"):
        chat_with(template).refuse_endless_template()


@pytest.mark.parametrize("loop", [ENDLESS[0], HUGE[0]])
def test_a_template_that_recognises_the_trial_is_refused_at_the_first_other_prompt(loop: str) -> None:
    sly = "{% if '2 + 2' not in (messages|string) %}" + loop + "{% endif %}{{ messages[0].content[-1].text }}"
    chat = chat_with(sly)
    chat.refuse_endless_template()
    for _ in range(2):  # the second time at once
        with pytest.raises(TemplateError, match=r"does not end|takes over"):
            chat.prompt(make_samples([0])[0])


def test_the_process_that_tries_templates_is_replaced_when_it_was_killed() -> None:
    chat = chat_with("{{ messages[0].content[-1].text }}")
    chat.refuse_endless_template()
    process = trial._renderer._running()
    process.terminate()
    process.wait()
    assert chat.template_text(make_samples([0])[0])


@pytest.mark.parametrize("owner", [3, ["x"], {"default": 3}, b"x"])
def test_a_template_that_is_no_text_is_refused(owner: object) -> None:
    chat = chat_with("x")
    chat.processor.chat_template = owner
    with pytest.raises(TemplateError, match=r"expected text|cannot write"):
        chat.template_text(make_samples([0])[0])


def test_a_model_with_an_endless_template_is_not_loaded(random_nano: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(random_nano, tmp_path / "model")
    (folder / "chat_template.jinja").write_text(HUGE[0])
    with pytest.raises(TemplateError, match="takes over"):
        load_model(str(folder))
