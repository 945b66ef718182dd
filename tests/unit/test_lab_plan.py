"""Plans: equal arms are trained once, other ones never pass for them, and the whole fits into its time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from seethink.models.load import load_model
from seethink.models.parts import split_parts
from seethink.runs.checkpoint import export_whole
from seethink.runs.reading import final_model
from seethink.studies.lab import plan as planning
from seethink.studies.lab.measurements import MEASUREMENTS
from seethink.studies.lab.parts import put_back
from seethink.studies.lab.plan import Job, Plan, job_key, make_plan
from seethink.studies.lab.scales import load_scales, why_left_out
from seethink.studies.lab.scheduler import wall_seconds, write_job
from seethink.studies.lab.schema import Arm, Experiment, LabError, load_experiments

EXPERIMENTS = load_experiments()
RELATIVES = {"base": "nano", "resampler": "nano-resampler", "qwen": "nano-qwen", "weak": "nano-weak"}
"""Packaged models, for plans of scales whose own may not be packaged yet: a plan loads none."""


def present(scale: str) -> list[Experiment]:
    return [e for e in EXPERIMENTS.values() if not why_left_out(e, load_scales()[scale])]


def planned(*names: str, scale: str = "smoke", seeds: int = 1) -> Plan:
    return make_plan([EXPERIMENTS[name] for name in names], scale, seeds, Path("lab"))


@pytest.fixture
def all_models(monkeypatch: pytest.MonkeyPatch) -> None:
    scales = {name: scale.model_copy(update={"models": RELATIVES}) for name, scale in load_scales().items()}
    monkeypatch.setattr(planning, "find_scale", scales.__getitem__)


@pytest.mark.parametrize("scale", load_scales())
def test_every_experiment_resolves_to_recipes(scale: str, all_models: None) -> None:
    experiments = [e for e in EXPERIMENTS.values() if (e.name, scale) != ("reflection", "nano")]
    plan = make_plan(experiments, scale, 2, Path("lab"))
    for experiment in experiments:
        arms = plan.arms[experiment.name]
        assert all(len(keys) == 2 and keys[0] != keys[1] for keys in arms.values())
        assert {name for term in experiment.terms for name in term.arms} == set(arms)
    seeds = {job.recipe.seed for job in plan.jobs.values() if job.recipe}
    assert seeds == {0, 1}


def test_seeds_from_a_later_one_on_are_those_of_a_longer_run() -> None:
    experiments = [EXPERIMENTS["clip-higher"]]
    later = make_plan(experiments, "smoke", 2, Path("lab"), first_seed=1)
    whole = make_plan(experiments, "smoke", 3, Path("lab"))
    assert {job.seed for job in later.jobs.values()} == {1, 2}
    assert all(later.arms["clip-higher"][arm] == keys[1:] for arm, keys in whole.arms["clip-higher"].items())


def test_the_whole_fits_into_its_time_on_two_cores(all_models: None) -> None:
    """The primary experiments at eight seeds, then the others at three, whose shared arms are there already."""
    primary = [e for e in EXPERIMENTS.values() if any(claim.primary for claim in e.claims)]
    first = make_plan(primary, "nano2", 8, Path("lab"))
    assert 2 * 3600 < wall_seconds(first, set(), 2) < 2.6 * 3600
    whole = make_plan(EXPERIMENTS.values(), "nano2", 3, Path("lab"))
    for key, job in whole.jobs.items():
        if (before := first.jobs.get(key)) is not None:
            job.train_s = 0.0
            job.measurements = {k: v for k, v in job.measurements.items() if k not in before.measurements}
    assert 3600 < wall_seconds(whole, set(), 2) < 2.6 * 3600


def test_one_cold_start_and_one_rl_run_serve_all_experiments_of_a_seed() -> None:
    plan = planned("vision-frozen", "connector-frozen", "post-rl-tuning", seeds=2)
    stages = sorted(job.stage or "base" for job in plan.jobs.values() if job.seed == 0)
    assert stages == ["base", "coldstart", "rl", "rl", "rl", "tune", "tune", "tune"]
    assert plan.arms["vision-frozen"]["rl"] == plan.arms["post-rl-tuning"]["rl"]
    assert plan.arms["vision-frozen"]["frozen"] != plan.arms["connector-frozen"]["frozen"]
    order = list(plan.jobs.values())
    assert all(order.index(job.parent) < order.index(job) for job in order if job.parent)


def test_own_answers_and_the_teachers_traces_are_compared_at_one_number_of_rows() -> None:
    plan, own = planned("own-traces", "post-rl-tuning", scale="nano"), load_scales()["nano"].own
    mine, teachers, most = (
        plan.jobs[plan.arms[name][arm][0]]
        for name, arm in (("own-traces", "own"), ("own-traces", "teacher"), ("post-rl-tuning", "c"))
    )
    assert [job.recipe.data.train_size for job in (mine, teachers)] == [own.rows] * 2
    assert mine.recipe == teachers.recipe
    assert (mine.collect["questions"], teachers.collect, most.collect) == (own.questions, None, None)
    assert len({mine.key, teachers.key, most.key}) == 3
    assert mine.train_s > teachers.train_s
    assert mine.parent is teachers.parent
    other = {**mine.collect, "questions": 9}
    assert job_key(mine.recipe, "x", 0, {"collect": mine.collect}) != job_key(mine.recipe, "x", 0, {"collect": other})
    with pytest.raises(ValueError, match="stages that train on them"):
        Arm(parent="cold", stage="rl", traces="own")


def test_a_part_is_put_back_to_what_its_parent_started_from(tmp_path: Path) -> None:
    plan = make_plan([EXPERIMENTS["parts"]], "smoke", 1, tmp_path)
    language, eyes, rl, cold = (
        plan.jobs[plan.arms["parts"][name][0]] for name in ("language-alone", "eyes-alone", "rl", "cold")
    )
    assert (language.parent, eyes.parent, rl.parent) == (rl, rl, cold)
    assert (language.recipe, language.train_s) == (None, 0)
    assert len({language.key, eyes.key, rl.key}) == 3
    for job, step in ((rl, 4), (cold, 2)):
        final = f"checkpoints/step_{step:06d}"
        (job.folder / final).mkdir(parents=True)
        (job.folder / final / "config.json").write_text("{}")
        (job.folder / "done.json").write_text(json.dumps({"final": final, "step": step}))
    trained = [str(final_model(job.folder)) for job in (rl, cold)]
    write_job(language)
    assert json.loads((language.folder / "job.json").read_text())["undo"] == {
        "after": trained[0], "before": trained[1], "parts": ["vision", "connector"],
    }  # fmt: skip


def test_what_is_put_back_is_what_was_there_and_the_rest_stays(tmp_path: Path) -> None:
    after = load_model("nano")
    with torch.no_grad():
        for weight in after.model.parameters():
            weight.add_(1.0)
    export_whole(after, tmp_path / "after", {})
    made = put_back(str(tmp_path / "after"), "nano", ["vision", "connector"], tmp_path)
    assert put_back(str(tmp_path / "after"), "nano", ["vision", "connector"], tmp_path) == made
    mixed, before = split_parts(load_model(made).model), split_parts(load_model("nano").model)
    for part, named in mixed.items():
        wanted = split_parts(after.model) if part == "language" else before
        assert all(torch.equal(weight, wanted[part][name]) for name, weight in named.items()), part
    with pytest.raises(LabError, match="differ in the shapes of their connector"):
        put_back("nano-qwen", "nano", ["connector"], tmp_path / "other")


def test_measurements_are_those_that_any_claim_asks_for() -> None:
    plan = planned("vision-frozen", "inference-modes", "entropy-selection", "connector-frozen")
    (rl,) = plan.arms["inference-modes"]["rl"]
    assert set(plan.jobs[rl].measurements) == {"eval", "modes", "select"}
    (frozen,) = plan.arms["connector-frozen"]["frozen"]
    assert plan.jobs[frozen].measurements == {}  # its claims are about the training alone
    (cold,) = plan.arms["connector-frozen"]["cold"]
    assert set(plan.jobs[cold].measurements) == {"eval"}  # for their checks


def test_three_checkpoints_of_an_rl_arm_are_kept_and_evaluated() -> None:
    plan, scale = planned("random-rewards", "parts", scale="nano"), load_scales()["nano"]
    random, cold, eyes = (
        plan.jobs[plan.arms[name][arm][0]]
        for name, arm in (("random-rewards", "random"), ("random-rewards", "cold"), ("parts", "eyes-alone"))
    )
    assert [job.measurements["eval"]["earlier"] for job in (random, cold, eyes)] == [2, 0, 0]
    assert random.recipe.checkpoint.keep == 3
    assert plan.measure_seconds(random)["eval"] == 2 * scale.seconds["eval"]  # 2 answers, and one of each earlier
    assert plan.measure_seconds(cold)["eval"] == scale.seconds["eval"]


def test_an_arm_of_equal_samples_may_sample_what_the_plain_arm_does() -> None:
    plan = planned("dynamic-sampling", scale="nano")
    equal, more, plain = (
        plan.jobs[plan.arms["dynamic-sampling"][arm][0]].recipe for arm in ("dynamic-equal", "dynamic", "rl")
    )
    rollout = plain.rollout
    assert equal.algorithm.samples == plain.algorithm.steps * rollout.prompts_per_step * rollout.group_size
    assert equal.algorithm.steps == more.algorithm.steps
    assert (more.algorithm.samples, plain.algorithm.samples) == (0, 0)
    with pytest.raises(ValueError, match="equal_samples is of arms of stage rl"):
        Arm(parent="rl", stage="tune", equal_samples=True)


def test_the_selection_study_trains_nothing_of_its_own_and_takes_its_forks_from_the_cold_start() -> None:
    others = planned("vision-frozen", "learning-rate", "entropy-selection", seeds=2)
    plan = planned("selection", seeds=2)
    assert plan.jobs.keys() == others.jobs.keys()
    cold = next(job for job in plan.jobs.values() if job.stage == "coldstart" and job.seed == 1)
    for keys in plan.arms["selection"].values():
        job = plan.jobs[keys[1]]
        assert job.recipe.checkpoint.keep == 100
        assert set(job.measurements) == {"select", "forks"}
        assert job.measurements["forks"]["reference"] == cold.label
    arms = {"x": Arm(parent="base", stage="rl"), **EXPERIMENTS["selection"].arms}
    claim = EXPERIMENTS["selection"].claims[0]
    odd = claim.model_copy(update={"left": claim.left.model_copy(update={"runs": ("x",)}), "checks": ()})
    with pytest.raises(LabError, match="selection/x: forks are those of the arm's cold start, and it has none"):
        make_plan([EXPERIMENTS["selection"].model_copy(update={"arms": arms, "claims": (odd,)})], "smoke", 1, Path("l"))


def test_the_length_of_an_arm_is_a_share_of_the_steps() -> None:
    plan, steps = planned("curriculum", scale="nano"), load_scales()["nano"].rl_steps
    jobs = {name: plan.jobs[keys[0]] for name, keys in plan.arms["curriculum"].items()}
    assert [jobs[n].recipe.algorithm.steps for n in ("normal", "then-hard", "mixed")] == [steps / 2, steps / 2, steps]
    assert jobs["then-hard"].parent is jobs["normal"]


@pytest.mark.parametrize(("scale", "normal", "hard"), [("nano", ["normal"], ["hard"]), ("nano2", ["2"], ["3", "4"])])
def test_a_difficulty_is_what_the_data_of_the_scale_call_so(scale: str, normal: list[str], hard: list[str]) -> None:
    plan = planned("curriculum", scale=scale)
    jobs = {name: plan.jobs[keys[0]].recipe for name, keys in plan.arms["curriculum"].items()}
    found = {name: [list(names) for _, names in recipe.algorithm.curriculum] for name, recipe in jobs.items()}
    assert {name: found[name] for name in ("normal", "then-hard", "mixed", "rl")} == {
        "normal": [normal], "then-hard": [hard], "mixed": [[*normal, *hard]], "rl": [],
    }  # fmt: skip


def test_denials_are_added_to_the_traces_of_the_scale() -> None:
    for scale, wanted in (
        ("nano", "world:all:traces?denials=0.2"),
        ("nano2", "world2:cold:traces?stage=coldstart&leaps=0.4&levels=1-4&denials=0.2"),
    ):
        plan = planned("hallucination", scale=scale)
        denies, filtered = (plan.jobs[plan.arms["hallucination"][name][0]].recipe for name in ("denies", "filtered"))
        assert denies.data.train == filtered.data.train == wanted
        assert (denies.sft.drop_hallucinated, filtered.sft.drop_hallucinated) == (False, True)


def test_a_missing_base_model_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = EXPERIMENTS["vision-frozen"].model_copy(update={"arms": {"x": Arm(model="huge")}})
    with pytest.raises(LabError, match="'vision-frozen' cannot run at the scale 'smoke': the scale has no base model"):
        make_plan([odd], "smoke", 1, Path("lab"))
    scale = load_scales()["nano"].model_copy(update={"models": {**RELATIVES, "weak": "nano-none"}})
    assert why_left_out(EXPERIMENTS["weak-base"], scale) == "the base model 'nano-none' is not packaged here"
    assert why_left_out(EXPERIMENTS["vision-frozen"], scale) == ""


def test_the_smoke_scale_runs_every_stage_and_every_measurement() -> None:
    jobs = make_plan(present("smoke"), "smoke", 1, Path("lab")).jobs.values()
    assert {job.stage for job in jobs} == {None, "coldstart", "rl", "tune", "distil"}
    assert {name for job in jobs for name in job.measurements} == set(MEASUREMENTS)
    assert any(job.collect for job in jobs)
    assert any(job.undo for job in jobs)


def test_reflection_is_left_out_on_the_first_world() -> None:
    reasons = {name: why_left_out(EXPERIMENTS["reflection"], scale) for name, scale in load_scales().items()}
    assert reasons == {"nano2": "", "smoke": "", "nano": "what is said can be taken apart on the second world alone"}


def test_an_unknown_scale_is_refused() -> None:
    with pytest.raises(LabError, match="choose from nano2, nano, smoke"):
        planned("rl-zero", scale="huge")


def keys_of(monkeypatch: pytest.MonkeyPatch, code: str = "a", origin: str = "o", **recipe: Any) -> str:
    monkeypatch.setattr(planning, "code_fingerprint", lambda: code)
    job = next(j for j in planned("rl-zero").jobs.values() if j.stage == "rl")
    assert job.recipe is not None
    return job_key(job.recipe.model_copy(update=recipe), origin, 0)


def test_what_a_key_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = keys_of(monkeypatch)
    optim = next(j for j in planned("rl-zero").jobs.values() if j.recipe).recipe.optim
    assert keys_of(monkeypatch) == plain
    assert keys_of(monkeypatch, out="elsewhere", name="other") == plain
    others = [
        keys_of(monkeypatch, code="b"),
        keys_of(monkeypatch, origin="p"),
        keys_of(monkeypatch, seed=7),
        keys_of(monkeypatch, optim=optim.model_copy(update={"lr": 1.0})),
    ]
    assert len({plain, *others}) == 5


def test_comments_and_layout_do_not_change_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fingerprint(text: str) -> str:
        (tmp_path / "rl").mkdir(exist_ok=True)
        (tmp_path / "rl" / "a.py").write_text(text)
        planning.code_fingerprint.cache_clear()
        return planning.code_fingerprint()

    monkeypatch.setattr(planning, "files", lambda _: tmp_path)
    monkeypatch.setattr(planning, "TRAINING_CODE", ("rl",))
    plain = fingerprint('"""Doc."""\n\ndef f(x):\n    return x + 1\n')
    assert fingerprint('def f(x):\n    """Says."""\n\n    return (x + 1)  # why\n') == plain
    assert fingerprint("def f(x):\n    return x + 2\n") != plain
    planning.code_fingerprint.cache_clear()


def toy(*jobs: tuple[str, str | None, float]) -> Plan:
    """(key, parent, seconds) of each job."""
    scale = load_scales()["smoke"]
    plan = Plan("smoke", scale, 1, [])
    for key, parent, seconds in jobs:
        before = plan.jobs[parent] if parent else None
        plan.jobs[key] = Job(key, Path(key), "rl", 0, None, "nano", before, train_s=seconds)
    return plan


def test_the_wall_time_of_a_plan() -> None:
    """Two cores; a (10) leads to b (10), c and d (5 each) are free: c and d run beside a, then b alone."""
    plan = toy(("a", None, 10), ("b", "a", 10), ("c", None, 5), ("d", None, 5))
    assert wall_seconds(plan, set(), 2) == 20
    assert wall_seconds(plan, set(), 1) == 30
    assert wall_seconds(plan, {"a"}, 2) == 10
    assert wall_seconds(plan, {"a", "b", "c", "d"}, 2) == 0
