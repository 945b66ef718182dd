"""The second nano: its size, its first phase's targets, its conversations, and going on after a kill."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from seethink.core.errors import UserError
from seethink.pretrain import phases
from seethink.pretrain.base import train_base
from seethink.pretrain.batches import BUFFER, Encoder, collate
from seethink.pretrain.cells import cell_batches, warped
from seethink.pretrain.codes import HEADS, KINDS, image_codes, told
from seethink.pretrain.descent import Descent
from seethink.pretrain.losses import batch_loss
from seethink.pretrain.nano2 import build_processor2, build_tokenizer2
from seethink.pretrain.settings import BaseConfig
from seethink.pretrain.variants import VARIANTS
from seethink.world.v2.domains import GROUPS
from seethink.world.v2.forms import named
from seethink.world.v2.items import Key, make_item
from seethink.world.v2.names import NAMES
from seethink.world.v2.scene import Problem, Thing
from seethink.world.v2.skills import skills
from seethink.world.v2.talk import conversation, drills, practice, scene, text, undrawn
from seethink.world.v2.tasks.chains import MOVES

NANO2 = VARIANTS["nano2"]
TINY = BaseConfig(
    vision_steps=2, drill_steps=1, text_steps=1, steps=2 * BUFFER, practice_steps=1, skill_steps=1, batch_size=2
)
KILLED_AFTER = BUFFER + 3


def train_tiny(out: Path, config: BaseConfig = TINY) -> dict[str, list[float]]:
    return train_base(config, out, variant=NANO2, log=lambda _: None)


def train_and_die(out: Path) -> None:
    """Kill this process in the middle of the second phase, without a chance to tidy up."""
    phases.KEEP_STEPS = BUFFER
    step = Descent.step

    def counted(self: Descent, loss: torch.Tensor) -> None:
        if len(self.losses) == KILLED_AFTER:
            os.kill(os.getpid(), signal.SIGKILL)
        step(self, loss)

    Descent.step = counted  # type: ignore[method-assign]
    train_tiny(out)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_a_killed_one_goes_on_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}; from pathlib import Path; import torch; torch.set_num_threads(1); "
    )
    code += f"from {__name__} import train_and_die; train_and_die(Path({str(killed)!r}))"
    died = subprocess.run([sys.executable, "-c", code], check=False)
    assert died.returncode == -signal.SIGKILL
    kept = sorted(file.name for file in killed.iterdir())
    assert kept == [f"unfinished.{name}.safetensors" for name in ("drills", "language.going", "text", "vision")]
    with pytest.raises(UserError, match=r"made with other settings; remove it"):
        train_tiny(killed, replace(TINY, lr=1e-4))

    taken: list[torch.Tensor] = []
    step = Descent.step

    def counted(self: Descent, loss: torch.Tensor) -> None:
        taken.append(loss)
        step(self, loss)

    monkeypatch.setattr(Descent, "step", counted)
    losses = train_tiny(killed)
    assert len(taken) == BUFFER + 2  # what was left of the fourth phase, and the last two
    monkeypatch.undo()
    assert losses == train_tiny(whole)
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    assert not any(killed.glob("unfinished.*"))

    files = [file for file in killed.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 12e6
    assert json.loads((killed / "base.json").read_text())["config"]["steps"] == TINY.steps


@pytest.mark.slow
def test_two_threads_train_the_first_two_phases_side_by_side(tmp_path: Path) -> None:
    config, threads = replace(TINY, steps=1), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        beside = train_tiny(tmp_path / "beside", config)
        assert torch.get_num_threads() == 2
        torch.set_num_threads(1)
        alone = train_tiny(tmp_path / "alone", config)
    finally:
        torch.set_num_threads(threads)
    assert [len(beside[name]) for name in beside] == [1, 1, 2, 1, 1, 1]
    for name in ("drills", "text", "vision"):
        assert beside[name] == alone[name]
    assert list(beside)[3:] == ["language", "practice", "skills"]
    np.testing.assert_allclose(beside["skills"], alone["skills"], rtol=1e-3)


@pytest.fixture(scope="module")
def tokenizer() -> object:
    return build_tokenizer2()


def test_it_has_two_to_six_million_parameters(tokenizer: object) -> None:
    model = NANO2.build(tokenizer, 0)
    assert 2e6 <= sum(weight.numel() for weight in model.parameters()) <= 6e6
    assert model.config.image_seq_length == 16


def test_cells_tell_what_they_show() -> None:
    red = Thing("red", 4, (5,), "digits", scratched=True)
    arrow = Thing("blue", 0, (0,), "arrows", "left")
    shapes = Thing("green", 2, (1, 7), "shapes")
    targets = told([red, arrow, shapes])
    assert targets.shape == (16, len(HEADS))
    name, left = NAMES.index, list(MOVES).index("left") + 1
    assert targets[5].tolist() == [name("red") + 1, 5, 0, 0, 0, KINDS.index("digits") + 1, 1]
    assert targets[0].tolist() == [name("blue") + 1, 0, 0, 0, left, KINDS.index("arrows") + 1, 0]
    assert targets[1].tolist() == targets[7].tolist() == [name("green") + 1, 3, 0, 0, 0, KINDS.index("shapes") + 1, 0]
    assert int((targets != 0).any(1).sum()) == 4


def test_every_cell_of_a_charts_column_tells_both_of_its_values() -> None:
    targets = told([Thing("red", 4, (2,), "bars"), Thing("teal", 9, (3,), "bars"), Thing("pink", 0, (7,), "bars")])
    both = [NAMES.index("red") + 1, 5, NAMES.index("teal") + 1, 10, 0, KINDS.index("bars") + 1, 0]
    assert all(row.tolist() == both for row in targets[1::4])
    assert all(row[2:4].tolist() == [NAMES.index("pink") + 1, 1] for row in targets[3::4])
    assert not targets[0::4].any()


def test_the_batches_of_the_first_phase_can_begin_anywhere() -> None:
    config = BaseConfig(batch_size=3, vision_steps=3)
    whole, rest = list(cell_batches(config, 0)), list(cell_batches(config, 2))
    assert [len(whole), len(rest)] == [3, 1]
    assert torch.equal(whole[2][0], rest[0][0])
    assert torch.equal(whole[2][1], rest[0][1])
    assert whole[0][0].shape == (3, 3, 112, 112)
    cases = torch.tensor(HEADS)
    assert all((targets <= cases).all() and targets[..., 0].any(1).all() for _, targets in whole)


def test_a_search_ends_with_the_first_candidate_that_hits() -> None:
    """Every candidate of a drill, worked out again from the question's text."""
    rng = np.random.default_rng(0)
    kinds = Counter[str]()
    for _ in range(300):
        shown, turns = skills(rng)
        assert not any("think>" in text for turn in turns for text in turn)
        found = re.fullmatch(r"I see (.+)\. Which (is|add to) (\d+)\?", turns[0][0])
        kinds["hits" if found else "text" if shown is None else "picture"] += 1
        if found is None:
            continue
        totals = [sum(map(int, each.split(" + "))) for each in found[1].split(", ")]
        tried = totals[: totals.index(int(found[3])) + 1]
        said = turns[0][1].removeprefix("I see ").split(". Wait, ")
        assert said[-1].endswith(f", so {found[3]}.")
        assert [int(re.split(", | = ", each.removesuffix(f", so {found[3]}."))[-1]) for each in said] == tried
    assert kinds["hits"] > 30
    assert kinds["text"] > 30
    assert kinds["picture"] > 100


@pytest.mark.parametrize("talk", [conversation, practice])
def test_pictures_come_with_working_in_plain_text_and_with_direct_answers(talk: Callable) -> None:  # type: ignore[type-arg]
    rng = np.random.default_rng(0)
    kinds = Counter[str]()
    for _ in range(150):
        image, turns = talk(rng)
        assert not any("think>" in text for turn in turns for text in turn)
        if image is not None:
            answers = [answer for _, answer in turns]
            kinds["worked"] += any(" so " in answer for answer in answers)
            kinds["direct"] += not any(" so " in answer for answer in answers)
    assert min(kinds.values()) > 20


def test_the_reading_of_an_arrow_has_the_card_behind_it() -> None:
    things = (Thing("red", 0, (5,), "arrows", "down"), Thing("blue", 3, (9,), "numbered", "up"))
    item = replace(make_item(Key(0, "base", "train", "chains", 1, 0)), problem=chain(things))
    assert named(item, ["blue", "red"])[1] == "I see blue 3 up red, red down blue."


def chain(things: tuple[Thing, ...]) -> Problem:
    return Problem(things, "chains", "end", "Follow 1 arrow from red. Where is the end?", "blue", ("red", "blue"))


def test_a_text_answers_from_its_caption_alone() -> None:
    """The readings of a text that names some things are the caption's own, in the order of the question."""
    rng = np.random.default_rng(0)
    named = 0
    for _ in range(500):
        image, turns = text(rng)
        assert image is None
        [(question, answer)] = turns
        if "Which are " in question or question.startswith("What are "):
            continue
        assert question.startswith("I see ")
        _, asked, names = question.partition(" What are ")
        if asked and "row" not in question and " and " not in question:
            readings = answer.removeprefix("I see ").rstrip(".").split(", ")
            assert [reading.split()[0] for reading in readings] == names.rstrip("?").split(", ")
            assert all(reading in question for reading in readings)
            named += 1
    assert named > 10


def test_drills_are_right() -> None:
    rng = np.random.default_rng(0)
    kinds = Counter[str]()
    for question, answer in (turn for _ in range(100) for turn in drills(rng)[1]):
        if question.startswith("What are "):
            equations = [each.split(" = ") for each in answer.rstrip(".").split(", ")]
            assert question.removeprefix("What are ").rstrip("?").split(", ") == [asked for asked, _ in equations]
            for asked, result in equations:
                total, sign, term = asked.split()
                assert int(result) == int(total) + (int(term) if sign == "+" else -int(term)) >= 0
            kinds["equations"] += len(equations)
            continue
        before, asked, rest = question.partition("Which are ")
        assert asked
        said = [pair.rsplit(" ", 1) for pair in answer.removeprefix("so ").rstrip(".").split(", ")]
        values, _, options = rest.partition("?")
        assert values.split(", ") == [value for value, _ in said]
        for value, holder in said:
            kinds["options" if options else "holders"] += 1
            if options:
                assert f"\n{holder}. {value}\n" in f"{options}\n"
            else:
                assert re.findall(rf"(\w+) {value}\b", before) == [holder]
    assert min(kinds.values()) > 30


def test_the_warped_cells_are_of_kinds_that_stay_what_they_are() -> None:
    things = [Thing("red", 4, (0,), "digits"), Thing("blue", 3, (5,), "clocks"), Thing("pink", 2, (10,), "dots")]
    cells = told(things).repeat(40, 1, 1)
    pixels = torch.rand(40, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    changed = (warped(pixels, cells, torch.Generator().manual_seed(1)) != pixels).any(1)
    by_cell = changed.view(40, 4, 28, 4, 28).transpose(2, 3).flatten(3).any(3).view(40, 16).sum(0)
    assert 20 < by_cell[0] < 40  # eight in ten
    assert 20 < by_cell[10] < 40
    assert int(by_cell.sum()) == int(by_cell[0] + by_cell[10])
    assert torch.equal(warped(pixels, torch.zeros_like(cells), torch.Generator()), pixels)


def test_cells_that_show_the_same_have_the_same_code_and_others_have_another() -> None:
    targets = told([Thing("red", 4, (5,), "digits"), Thing("red", 4, (6,), "digits"), Thing("red", 5, (7,), "digits")])
    codes = image_codes(targets, 192)
    assert codes.shape == (16, 192)
    assert torch.equal(codes[5], codes[6])
    assert torch.equal(codes[0], codes[15])  # nothing
    # All but the value is the same, so that the difference is that of two values on any card.
    other = image_codes(told([Thing("blue", 4, (5,), "dots"), Thing("blue", 5, (7,), "dots")]), 192)
    torch.testing.assert_close(codes[7] - codes[5], other[7] - other[5])
    assert (codes[7] - codes[5]).norm() > 1


def test_a_picture_that_is_not_drawn_is_its_codes_in_the_places_of_image_tokens(tokenizer: object) -> None:
    """The loss is that of the language model alone, with the codes written into its inputs one by one."""
    encoder = Encoder(tokenizer, NANO2.image_seq_length)
    rng, rows = np.random.default_rng(0), []
    while not {type(shown) for *_, shown in rows} >= {tuple, type(None)}:
        shown, turns = undrawn(rng)
        rows.append((*encoder.encode(shown is not None, turns), shown))
    batch = collate(rows, encoder.pad_id)
    model = NANO2.build(tokenizer, 0).double()
    wanted, tokens = torch.zeros((), dtype=torch.float64), 0
    for ids, mask, shown in rows:
        embeds = model.get_input_embeddings()(torch.tensor(ids)).detach().clone()
        if shown is not None:
            start = ids.index(tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"))  # type: ignore[attr-defined]
            for cell, code in enumerate(image_codes(told(shown), embeds.shape[1]).double()):
                embeds[start + cell] = code
        states = model.model.language_model(inputs_embeds=embeds[None]).last_hidden_state
        logps = model.lm_head(states)[0].log_softmax(-1)
        for place in range(1, len(ids)):
            if mask[place]:
                wanted, tokens = wanted - logps[place - 1, ids[place]], tokens + 1
    torch.testing.assert_close(batch_loss(model, batch, NANO2), wanted / tokens)


def test_scenes_keep_the_rules_of_the_stage() -> None:
    rng = np.random.default_rng(0)
    items = [scene(rng) for _ in range(100)]
    assert {item.key.stage for item in items} == {"base"}
    assert {item.key.split for item in items} == {"train"}
    assert not {item.key.domain for item in items} & set(GROUPS["held"])
    assert {item.key.level for item in items} == set(range(1, 9))


def test_conversations_are_encoded_as_the_chat_template_writes_them(tokenizer: object) -> None:
    image, turns = next(c for c in (conversation(np.random.default_rng(i)) for i in range(50)) if c[0])
    messages = []
    for number, (question, answer) in enumerate(turns):
        parts = [{"type": "image"}] * (number == 0) + [{"type": "text", "text": question}]
        messages += [{"role": "user", "content": parts}, {"role": "assistant", "content": answer}]
    processor = build_processor2(tokenizer)
    text = processor.apply_chat_template(messages, tokenize=False)
    encoder = Encoder(tokenizer, NANO2.image_seq_length)
    assert processor(images=[image], text=[text])["input_ids"][0] == encoder.encode(True, turns)[0]
