"""The rollout viewer in a real browser: filters, keys, links, comparison, and 2,000 groups of rollouts."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from make_run import BLIND, HOSTILE, make_evaluation, make_rl

from seethink.report import write_report

pytestmark = [pytest.mark.browser, pytest.mark.slow]
PLACE, TEXT = "#v-place", "#v-completions .text"
GROUPS = 18 + 3 * 4
"""Of the plain run: three steps of RL, and the same four prompts of three evaluations."""
FILTERS = ["split", "confident", "hesitant", "critical", "hallucinated", "again"]


def count(one: Any) -> int:
    return int(one.text(PLACE).split(" of ")[1])


def pressed(one: Any) -> list[str]:
    return [name for name in FILTERS if one.page.get_attribute(f"[data-filter={name}]", "aria-pressed") == "true"]


def entropy(one: Any, selector: str) -> float:
    """The mean entropy of the spans of the first completion that the selector finds."""
    script = "(all) => all.reduce((sum, one) => sum + Number(one.dataset.entropy), 0) / all.length"
    return one.page.eval_on_selector_all(f"#v-completions article:first-of-type {selector}", script)


# Filters


@pytest.mark.parametrize("name", FILTERS)
def test_filters_keep_what_they_say(visit: Any, report: Path, name: str) -> None:
    one = visit(report)
    one.page.click(f"[data-filter={name}]")
    assert pressed(one) == [name]
    assert one.text(f"[data-filter={name}] .many") == str(count(one))
    assert 0 < count(one) < GROUPS
    about = one.page.get_attribute(f"[data-filter={name}]", "title")
    while True:
        assert kept(one, name, about)
        if one.page.is_disabled("#v-next"):
            break
        one.page.keyboard.press("j")


def kept(one: Any, name: str, about: str) -> bool:
    """Whether the group shown is one that the filter's explanation speaks of."""
    verdicts = one.page.locator("#v-completions .verdict").all_inner_texts()
    right = sum("correct" in verdict for verdict in verdicts)
    if name == "split":
        return 0 < right < len(verdicts)
    if name == "confident":
        return right == 0 and len(verdicts) > 0 and entropy(one, "[data-entropy]") <= limit(about) + 0.006
    if name == "hesitant":
        return entropy(one, ".critical") >= limit(about) - 0.006
    if name == "again":
        return one.page.is_visible("#v-comparing")
    mark = {"critical": ".critical", "hallucinated": "mark.blind"}[name]
    return one.page.locator(f"{TEXT}:not(:has({mark}))").count() == 0


def limit(about: str) -> float:
    """The number of nats in a filter's explanation."""
    return float(about.split(" nats")[0].split()[-1])


def test_conditions_on_completions_hold_for_the_same_completion(visit: Any, report: Path) -> None:
    one = visit(report)
    one.page.click("[data-filter=hallucinated]")
    one.page.select_option("#v-verdict", "wrong")
    while True:
        cards = one.page.locator("#v-completions article")
        assert cards.count() > 0
        for card in cards.all():
            assert "wrong" in card.locator(".verdict").inner_text()
            assert card.locator("mark.blind").inner_text() == "".join(BLIND).strip()
        if one.page.is_disabled("#v-next"):
            break
        one.page.keyboard.press("j")
    shown = one.page.locator("#v-completions article").count()
    one.page.click("#v-completions .rest")
    assert one.page.locator("#v-completions article").count() > shown


def test_source_step_domain_and_verdict_are_chosen(visit: Any, report: Path) -> None:
    one = visit(report)
    assert count(one) == GROUPS
    one.page.select_option("#v-source", label="RL · training")
    assert count(one) == 18
    one.page.select_option("#v-step", "20")
    assert count(one) == 6
    assert "step 20" in one.text("#v-question .about")
    one.page.select_option("#v-source", label="connector · evaluation")
    assert count(one) == 4
    one.page.select_option("#v-domain", "reading")
    assert count(one) == 2
    one.page.click("#v-reset")
    assert count(one) == GROUPS
    assert one.page.is_hidden("#v-reset")
    one.page.select_option("#v-verdict", "all_wrong")
    assert 0 < count(one) < GROUPS
    assert one.page.locator("#v-completions .correct").count() == 0


def test_text_is_searched_in_questions_and_responses(visit: Any, report: Path) -> None:
    one = visit(report)
    one.page.keyboard.press("/")
    assert one.page.evaluate("document.activeElement.id") == "v-search"
    one.page.keyboard.type("question 3 of")
    one.page.locator(PLACE, has_text="1 of 3").wait_for()
    one.page.keyboard.press("Escape")
    assert count(one) == GROUPS
    assert one.page.evaluate("document.activeElement.id") == "v-list"
    one.page.fill("#v-search", "WAIT, look")
    one.page.press("#v-search", "Enter")
    assert 0 < count(one) < GROUPS
    hits = one.page.locator("#v-completions article:first-of-type .hit").all_inner_texts()
    assert hits == ["Wait", ",", "look"]
    one.page.fill("#v-search", "nowhere to be found")
    one.page.press("#v-search", "Enter")
    assert one.text("#v-empty") == "No group passes these filters."
    assert one.page.is_hidden("#v-rollout")


# Keys


def test_buttons_and_keys_turn_the_page(visit: Any, report: Path) -> None:
    one = visit(report)
    assert one.text(PLACE) == f"1 of {GROUPS}"
    assert one.page.is_disabled("#v-prev")
    one.page.click("#v-next")
    for key, place in (("ArrowRight", 3), ("j", 4), ("k", 3), ("ArrowLeft", 2)):
        one.page.keyboard.press(key)
        assert one.text(PLACE) == f"{place} of {GROUPS}"
    for _ in range(GROUPS + 2):
        one.page.keyboard.press("j")
    assert one.text(PLACE) == f"{GROUPS} of {GROUPS}"
    assert one.page.is_disabled("#v-next")


def test_the_list_is_a_list_to_keys_and_screen_readers(visit: Any, report: Path) -> None:
    one = visit(report)
    one.page.focus("#v-list")
    one.page.keyboard.press("End")
    chosen = one.page.locator("#v-list [aria-selected=true]")
    assert chosen.get_attribute("aria-posinset") == chosen.get_attribute("aria-setsize") == str(GROUPS)
    assert one.page.get_attribute("#v-list", "aria-activedescendant") == chosen.get_attribute("id")
    one.page.keyboard.press("ArrowUp")
    one.page.keyboard.press("Home")
    assert one.text(PLACE) == f"1 of {GROUPS}"
    one.page.click("#v-list [data-place='2']")
    assert one.text(PLACE) == f"3 of {GROUPS}"


def test_keys_are_told_and_letters_can_be_switched_off(visit: Any, report: Path) -> None:
    one = visit(report)
    one.page.keyboard.press("?")
    assert one.page.is_visible("#v-keys")
    one.page.keyboard.press("j")
    one.page.uncheck("#v-letters")
    one.page.keyboard.press("Escape")
    assert one.page.is_hidden("#v-keys")
    one.page.click("#v-help")
    one.page.click("#v-keys form button")
    assert one.page.is_hidden("#v-keys")
    one.page.keyboard.press("j")
    assert one.text(PLACE) == f"1 of {GROUPS}"
    one.page.keyboard.press("ArrowRight")
    assert one.text(PLACE) == f"2 of {GROUPS}"
    one.page.fill("#v-search", "jk")
    assert one.text(PLACE).startswith("2 of")


def test_focus_is_seen_and_every_control_has_a_name(visit: Any, report: Path) -> None:
    page = visit(report).page
    page.focus("#v-search")
    names = []
    for _ in range(14):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.id || document.activeElement.dataset.filter"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        width = page.evaluate("parseFloat(getComputedStyle(document.activeElement).outlineWidth)")
        assert width >= 2
    assert names[:4] == ["v-source", "v-step", "v-domain", "v-verdict"]
    assert "v-list" in names
    unnamed = """() => [...document.querySelectorAll('#viewer :is(button, select, input, [role=listbox])')]
        .filter((one) => !(one.tagName === 'BUTTON' && one.textContent.trim()) && !one.ariaLabel && !one.labels?.length)
        .map((one) => one.outerHTML)"""
    assert page.evaluate(unnamed) == []


# Links


def test_a_link_opens_its_group(visit: Any, report: Path) -> None:
    one = visit(report, "#rollout/RL%20%C2%B7%20training/20/math-20-3")
    assert "math-20-3" in one.text("#v-question .about")
    assert one.page.evaluate("window.scrollY") > 500
    one.page.keyboard.press("ArrowRight")
    address = one.page.evaluate("location.hash")
    assert address == "#rollout/RL%20%C2%B7%20training/20/math-20-4"
    assert "math-20-4" in visit(report, address).text("#v-question .about")
    assert "The linked group is not on this page" in visit(report, "#rollout/RL/1/gone").text("#v-empty")
    assert visit(report, "#accuracy").page.evaluate("location.hash") == "#accuracy"


def test_a_link_keeps_filters_and_comparison(visit: Any, report: Path) -> None:
    one = visit(report)
    one.page.click("[data-filter=again]")
    one.page.select_option("#v-source", label="RL · evaluation")
    one.page.fill("#v-search", "question")
    one.page.press("#v-search", "Enter")
    one.page.keyboard.press("j")
    one.page.keyboard.press("c")
    seen = [one.text(selector) for selector in (PLACE, "#v-completions", "#v-question")]
    again = visit(report, one.page.evaluate("location.hash"))
    assert [again.text(selector) for selector in (PLACE, "#v-completions", "#v-question")] == seen
    assert again.page.input_value("#v-source") == "RL · evaluation"
    assert again.page.input_value("#v-search") == "question"
    assert pressed(again) == ["again"]
    assert again.page.locator("#v-completions .side").count() == 2


def test_a_link_of_nonsense_shows_everything(visit: Any, report: Path) -> None:
    for fragment in ("#rollout/%zz?is=constructor&verdict=__proto__&with=x", "#rollout/?is=&step=&text=", "#rollout/"):
        one = visit(report, fragment)
        assert one.text(PLACE) == f"1 of {GROUPS}"


# Comparison


def test_two_checkpoints_on_the_same_prompt(visit: Any, report: Path) -> None:
    one = visit(report, "#rollout/cold-start%20%C2%B7%20evaluation//test-1")
    options = one.page.locator("#v-compare option").all_inner_texts()
    assert options == ["nothing", "RL · evaluation", "connector · evaluation"]
    one.page.keyboard.press("c")
    assert one.page.input_value("#v-compare").startswith("RL")
    one.page.keyboard.press("c")
    heads = one.page.locator("#v-completions .side h3").all_inner_texts()
    assert heads == ["cold-start · evaluation", "connector · evaluation"]
    left, right = one.page.locator("#v-completions .side").all()
    boxes = left.bounding_box(), right.bounding_box()
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
    rows = dict(row.split("\t", 1) for row in one.text(".versus-table tbody").splitlines())
    shares = [100 * side.locator(".correct").count() / side.locator("article").count() for side in (left, right)]
    change = shares[1] - shares[0]
    sign = "+" if change > 0 else "−" if change < 0 else ""
    assert rows["correct"] == f"{shares[0]:.0f} %\t{shares[1]:.0f} %\t{sign}{abs(change):.0f} %"
    one.page.keyboard.press("c")
    assert one.page.locator("#v-completions .side").count() == 0


def test_two_steps_on_the_same_prompt_and_not_on_another(visit: Any, tmp_path: Path) -> None:
    run = make_rl(tmp_path / "grpo", random.Random(2), steps=20, prompts=2, size=2)
    for step in (10, 20):
        path = run / "rollouts" / f"step_{step:06d}.jsonl"
        text = path.read_text(encoding="utf-8").replace(f"math-{step}-", "math-")
        path.write_text(text.replace("red plus blue", f"blue at {step}", step // 20), encoding="utf-8")
    one = visit(write_report(run), "#rollout/grpo%20%C2%B7%20training/10/math-1")
    assert one.page.locator("#v-compare option").all_inner_texts() == ["nothing", "grpo · training, step 20"]
    one.page.keyboard.press("k")
    assert one.page.is_hidden("#v-comparing")


# Tokens, hostile text, size


def test_a_token_tells_its_entropy(visit: Any, report: Path) -> None:
    one = visit(report, "#rollout/?is=critical")
    one.page.hover("#v-completions .critical >> nth=0")
    assert one.text("#v-token") == "“Wait” 1.60 nats, critical word"
    shade = "getComputedStyle(document.querySelector('#v-completions .critical')).backgroundColor"
    assert "rgba(226, 132, 38" in one.page.evaluate(shade)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_on_every_shade_has_contrast(visit: Any, report: Path, scheme: str) -> None:
    page = visit(report, color_scheme=scheme).page
    contrasts = page.evaluate("""() => {
        const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
        const light = (rgb) => rgb.map((one) => one / 255)
            .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4))
            .reduce((sum, one, place) => sum + one * [0.2126, 0.7152, 0.0722][place], 0);
        const style = (one) => getComputedStyle(one);
        const card = document.querySelector('.completion');
        const under = numbers(style(card).backgroundColor), ink = light(numbers(style(card).color).slice(0, 3));
        return [...document.querySelectorAll('#v-scale span')].map((one) => {
            const [r, g, b, share = 1] = numbers(style(one).backgroundColor);
            const over = light([r, g, b].map((value, place) => share * value + (1 - share) * under[place]));
            return (Math.max(ink, over) + 0.05) / (Math.min(ink, over) + 0.05);
        });
    }""")
    assert len(contrasts) == 10
    assert min(contrasts) >= 4.5


def test_hostile_text_is_shown_and_does_nothing(visit: Any, hostile: Path) -> None:
    one = visit(hostile, "#rollout/RL%20%C2%B7%20training/10/math-10-0")
    question = one.page.text_content("#v-question .asked")
    assert all(text in question for text in HOSTILE[:3])
    assert "␛[31mred␛[0m" in question
    assert HOSTILE[1] in one.page.text_content("#v-completions article:first-of-type .text")
    assert HOSTILE[0] in one.text("#v-completions article:first-of-type header")
    assert one.page.locator("#v-completions article:first-of-type mark.blind").first.text_content() == HOSTILE[0]
    assert HOSTILE[0] in one.page.text_content("#v-list [aria-selected=true] .asked")
    assert one.page.evaluate("document.querySelectorAll('#viewer script, img[src=x]').length") == 0
    one.page.click("#v-next")
    assert "leads outside the run" in one.text("#v-question")
    assert "image file is missing" in one.text("#v-question")
    one.page.fill("#v-search", HOSTILE[2])
    one.page.press("#v-search", "Enter")
    assert one.page.input_value("#v-search") == HOSTILE[2]
    assert one.page.evaluate("document.querySelectorAll('#viewer script, img[src=x]').length") == 0


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("large") / "grpo"
    return write_report(make_rl(run, random.Random(2), steps=200, prompts=100, size=8))


def test_two_thousand_groups_stay_small_and_smooth(visit: Any, large: Path) -> None:
    """Bounds on the CPU time of the page's main thread, several times what `benchmarks/report.py` measures."""
    assert large.stat().st_size < 15_000_000
    one = visit(large)
    assert one.text(PLACE) == "1 of 2000"
    assert one.spent() < 1500
    assert one.page.locator("#v-list [role=option]").count() < 40
    acts = [f"document.querySelector('[data-filter={name}]').click()" for name in FILTERS[:5]]
    acts += ["document.dispatchEvent(new KeyboardEvent('keydown', { key: 'j' }))"] * 3
    acts += ["document.getElementById('v-list').scrollTop += 3000"] * 3
    acts += ["const box = document.getElementById('v-search'); box.value = 'wait'; "
             "box.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter' }))"]  # fmt: skip
    for act in acts:
        before = one.spent()
        one.page.evaluate(f"async () => {{ {act}; await new Promise((done) => requestAnimationFrame(done)); }}")
        assert one.spent() - before < 200, act
    assert 0 < count(one) < 2000
    assert one.page.locator("#v-list [role=option]").count() < 40


def test_two_evaluations_beside_each_other_are_compared(visit: Any, tmp_path: Path) -> None:
    for name in ("before", "after"):
        make_evaluation(tmp_path / name)
    one = visit(write_report(tmp_path), "#rollout/before%20%C2%B7%20evaluation//test-2")
    assert one.page.locator("#v-compare option").all_inner_texts() == ["nothing", "after · evaluation"]
    one.page.keyboard.press("c")
    sides = one.page.locator("#v-completions .side h3").all_inner_texts()
    assert sides == ["before · evaluation", "after · evaluation"]
