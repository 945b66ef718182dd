"""`seethink coldstart`: questions -> traces -> grades -> scores -> select -> report, from wherever the folder is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.table import Table

from seethink.coldstart import funnel
from seethink.coldstart.collect import collect_traces, grader_of, reach_readers, read_right, score_traces
from seethink.coldstart.output import write_data
from seethink.coldstart.questions import (
    Questions,
    are_stored,
    prepare_questions,
    questions_identity,
    stored_questions,
)
from seethink.coldstart.scores import VERSION, Counting
from seethink.coldstart.select import Outcome, select
from seethink.coldstart.server_teacher import ServerTeacher
from seethink.coldstart.store import Grader, Plan, Store
from seethink.coldstart.teacher import LOCAL, Teacher
from seethink.config.coldstart import ColdstartConfig
from seethink.config.coldstart_file import ColdstartSettings
from seethink.core.console import console, say
from seethink.core.errors import UserError
from seethink.core.exits import RunStopped
from seethink.core.redact import visible
from seethink.core.text_measures import words
from seethink.report.coldstart_page import write_page
from seethink.rewards.golds import read_gold
from seethink.rewards.rewarder import command_rewarder
from seethink.runs.lock import FolderLock
from seethink.studies.coldstart.estimate import Estimate, estimate
from seethink.studies.coldstart.folder import (
    COLLECTED,
    TEACHER,
    claim_folder,
    plan_of,
    remember_teacher,
    remembered,
    traces_of,
)

SERVERS = {"judge", "reward_model"}
"""Keys of `[coldstart]` that hold addresses, which neither card nor page shows."""
SHOWN = 2
"""Prompts that a dry run prints."""


@dataclass(frozen=True)
class ColdstartCommand:
    """One call of the command. Raises UserError for what a user can correct."""

    source: str
    folder: Path
    settings: ColdstartSettings
    teachers: Sequence[str] = ()
    """Addresses of servers, or one `local:CHECKPOINT`."""
    model: str | None = None
    limit: int | None = None
    seed: int = 0
    against: Sequence[str] = ()
    retry_failed: bool = False

    def run(self) -> bool:
        """Collect, select and report. False where more than a hundredth of the samples failed or were not graded."""
        claim_folder(self.folder, self.source)
        with FolderLock(self.folder, "-o "), closing(self._teacher(self.folder)) as teacher:
            questions = self._questions(self.folder)
            with Store(self.folder) as store:
                _refuse_unmeasured(self.settings.coldstart, store)
                reach_readers(self.settings.coldstart)
                counting = _counting(self.settings.coldstart.student)
                with command_rewarder(self.settings.reward, self.folder) as rewarder, _resumable():
                    local = [url for url in self.teachers if not url.startswith(LOCAL)]
                    grader = grader_of(rewarder)
                    remember_teacher(self.folder, teacher, local, grader, self.settings.coldstart, self.seed)
                    plan = plan_of(remembered(self.folder), questions, self.settings.coldstart)
                    collect_traces(plan, store, teacher, rewarder, counting, retry_failed=self.retry_failed)
                read_right(plan, store, grader)
                return self._finish(store, plan, questions, grader, counting)

    def refilter(self) -> bool:
        """Select anew from what the folder has; nothing is sent."""
        claim_folder(self.folder, self.source)
        with FolderLock(self.folder, "-o "), Store(self.folder) as store:
            about, questions = remembered(self.folder), stored_questions(self.folder)
            plan = plan_of(about, questions, self._as_collected(about))
            _refuse_unmeasured(plan.config, store)
            counting = _counting(plan.config.student)
            return self._finish(store, plan, questions, Grader(about["grader"]), counting)

    def dry_run(self) -> None:
        """Prepare the questions, print prompts as they would be sent, and estimate. Nothing is sent."""
        claim_folder(self.folder, self.source)
        with FolderLock(self.folder, "-o "), self._aside() as folder, closing(self._teacher(folder)) as teacher:
            questions, config = self._questions(folder), self.settings.coldstart
            with Store(self.folder) as store:
                system = config.system if config.system is not None else teacher.system
                plan = Plan(questions.kept, config, teacher.identity, system, self.seed)
                for question in questions.kept[:SHOWN]:
                    say(visible(f"--- {question.id}\n{teacher.rendered(question)}"))
                console.print(_estimate_table(estimate(plan, store, folder), config.price_out > 0, plan))
                say(visible(f"reward model: {_reward_model(config)}"))

    # ---- steps

    @contextmanager
    def _aside(self) -> Iterator[Path]:
        """Where a dry run prepares questions: those that traces were collected for stay, for --refilter."""
        identity = questions_identity(
            self.source, self.settings.data, limit=self.limit, seed=self.seed, against=self.against
        )
        if are_stored(self.folder, identity) or not (self.folder / TEACHER).exists():
            yield self.folder
            return
        with TemporaryDirectory(dir=self.folder, prefix=".dry-run-") as folder:
            yield Path(folder)

    def _questions(self, folder: Path) -> Questions:
        questions = prepare_questions(
            self.source,
            folder,
            self.settings.data,
            read_gold,
            limit=self.limit,
            seed=self.seed,
            against=self.against,
        )
        _refuse_chance(questions, self.settings.coldstart.samples, self.settings.coldstart.choice_right)
        say(visible(_said(questions)))
        return questions

    def _teacher(self, folder: Path) -> Teacher:
        """`folder` has the pictures."""
        local = [name for name in self.teachers if name.startswith(LOCAL)]
        if local and len(self.teachers) > 1:
            raise UserError(f"--teacher {local[0]}: a local checkpoint is the only teacher; leave the others out")
        if local:
            from seethink.coldstart.local_teacher import LocalTeacher  # loads transformers, which takes seconds

            return LocalTeacher(local[0].removeprefix(LOCAL), folder, self.settings.coldstart, self.seed)
        if not self.teachers:
            raise UserError("--teacher: give the address of a server, or local:CHECKPOINT")
        if self.model is None:
            raise UserError("--model: give the name under which the server knows the teacher")
        return ServerTeacher(self.settings.servers(self.teachers, self.model), folder, self.settings.coldstart)

    def _as_collected(self, about: dict[str, Any]) -> Any:
        known = {key: value for key, value in about["collected"].items() if key in COLLECTED}
        table = {**self.settings.coldstart.model_dump(), **known}
        return type(self.settings.coldstart).model_validate(table)

    def _finish(self, store: Store, plan: Plan, questions: Questions, by: Grader, counting: Counting) -> bool:
        score_traces(plan, store, counting)
        outcomes = select(questions.kept, traces_of(plan, store, by), plan.config, self.settings.sft)
        about = self._about(plan, by, counting.unit)
        data = write_data(self.folder, store, questions, outcomes, about)
        page = write_page(self.folder, store, questions, outcomes, about)
        console.print(_funnel_table(questions, outcomes))
        say(visible(f"data: {data}"))
        say(visible(f"report: {page}"))
        bad, samples = funnel.unanswered(outcomes)
        if bad:
            said = f"{bad:,} of {samples:,} samples failed or could not be graded{_last_error(store, outcomes)}"
            say(visible(f"{said}. Give the command again, with --retry-failed for those that failed"), "yellow")
        return bad <= funnel.UNANSWERED * samples

    def _about(self, plan: Plan, by: Grader, counted_in: str) -> dict[str, Any]:
        """What the card and the page say of how the data were made: nothing in it depends on this call."""
        about = remembered(self.folder)
        s = self.settings
        filters = s.sft.model_dump(
            mode="json",
            include={"max_response_tokens", "max_repetition", "require_think", "drop_hallucinated", "latin_only"},
        )
        reward = by.identity.get("reward", {})
        verifier = reward.get("verifier", {}).get("model")
        return {
            "teacher": about["name"],
            "identity": plan.teacher,
            "grader": f"rule or verifier ({verifier})" if verifier else reward.get("function", "rule"),
            "reward_model": _reward_name(plan),
            "judge": plan.config.judge.model if plan.config.judge is not None else "none",
            "tokens": counted_in,
            "settings": {
                "coldstart": {**plan.config.model_dump(mode="json", exclude=SERVERS), "system": plan.system},
                "sft": filters,
                "reward": reward,
                "seed": plan.seed,
            },
        }


@contextmanager
def _resumable() -> Iterator[None]:
    """Ctrl-C ends the command with what is there; the same command goes on."""
    try:
        yield
    except KeyboardInterrupt:
        raise RunStopped("stopped; what came back is stored, and the same command goes on from there") from None


def _counting(student: str | None) -> Counting:
    """In words, or in the tokens of the model to be trained. Raises ModelError."""
    if student is None:
        return Counting(words, "words, and CJK characters", f"words 1, scores {VERSION}")
    from seethink.data.lengths import processor_identity
    from seethink.models.load import load_chat

    chat = load_chat(student)
    by = f"tokens {processor_identity(chat)}, scores {VERSION}"
    return Counting(chat.response_ids, f"tokens of {student}", by)


def _last_error(store: Store, outcomes: Sequence[Outcome]) -> str:
    """What the last failed sample says of itself."""
    failed = [trace.key for outcome in outcomes for trace in outcome.traces if trace.state == "failed"]
    return f"; the last one: {store.traces[failed[-1]].get('error', '')}" if failed else ""


def _refuse_unmeasured(config: ColdstartConfig, store: Store) -> None:
    """Raises UserError for a threshold on something that nobody measures."""
    if config.max_perplexity is not None and not config.perplexity and not len(store.perplexity):
        raise UserError("coldstart.max_perplexity needs coldstart.perplexity=true and coldstart.student")
    if config.min_reward is not None and config.reward_model is None and config.reward_checkpoint is None:
        raise UserError(
            "coldstart.min_reward needs coldstart.reward_checkpoint, or coldstart.reward_model.base_url and "
            "coldstart.reward_model.model"
        )


def _reward_model(config: ColdstartConfig) -> str:
    """What will score the right traces, for a dry run. Raises ModelError for a checkpoint that is none."""
    if config.reward_checkpoint is not None:
        from seethink.models.reward_head import reward_class  # loads transformers, which takes seconds

        return f"{config.reward_checkpoint} ({reward_class(config.reward_checkpoint)}), in this process"
    if config.reward_model is not None:
        return f"{config.reward_model.model}, at /{config.reward_model.route} of its server"
    return "none"


def _reward_name(plan: Plan) -> str:
    """As card and page name it."""
    if plan.config.reward_checkpoint is not None:
        return f"{Path(plan.config.reward_checkpoint).name} ({(plan.rewarded or '')[:12]})"
    return plan.config.reward_model.model if plan.config.reward_model is not None else "none"


def _refuse_chance(questions: Questions, samples: int, needed: int) -> None:
    if samples < needed and any(question.choices for question in questions.kept):
        raise UserError(
            f"coldstart.choice_right={needed} right traces cannot come of samples={samples}: multiple-choice questions "
            "would all be left out; give more --samples, or coldstart.choice_right=1 to take what may be chance"
        )


def _said(questions: Questions) -> str:
    out = len(questions.left_out)
    checked = questions.about.get("benchmark_rows", 0)
    against = f"kept apart from {checked:,} benchmark rows" if checked else "not checked against benchmarks (--against)"
    return f"questions: {len(questions.kept):,} of {questions.read:,}, {out:,} left out; {against}"


def _funnel_table(questions: Questions, outcomes: Sequence[Outcome]) -> Table:
    table = Table(title="Questions")
    for heading in ("", "questions", "share"):
        table.add_column(heading, justify="left" if not heading else "right")
    counts = funnel.funnel(questions, outcomes)
    for name, count in counts.steps():
        table.add_row(name, f"{count:,}", f"{100 * count / max(1, counts.read):.1f} %")
    for reason, count in funnel.first_reasons(questions, outcomes).items():
        table.add_row(f"  not: {funnel.words_of(reason)}", f"{count:,}", "", style="dim")
    return table


def _estimate_table(found: Estimate, priced: bool, plan: Plan) -> Table:
    table = Table("", "", title="Estimate; nothing was sent")
    measured = f"means of the {found.known:,} samples in the folder" if found.known else "from texts and picture sizes"
    least, most = found.requests
    out = f"{found.tokens_out:,.0f}" if found.tokens_out is not None else f"unknown, at most {plan.config.max_tokens:,}"
    table.add_row("questions to ask", f"{found.questions:,}")
    table.add_row("requests", f"{least:,}" if least == most else f"{least:,} to {most:,}")
    table.add_row("prompt tokens a request", f"{found.tokens_in:,.0f} ({measured})")
    table.add_row("completion tokens a request", out)
    if priced:
        cheap, dear = found.cost(plan.config)
        table.add_row("cost", f"{cheap:,.2f}" if cheap == dear else f"{cheap:,.2f} to {dear:,.2f}")
    return table
