"""Stage 5: which traces become training data. A pure function of what is stored: the same files give the same bytes.

Of a question's right traces that no threshold speaks against, those that a reward model likes best are taken, and the
shortest where there is none. Questions are split by the group
of their pictures, never by trace.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from seethink.coldstart.filters import reasons
from seethink.coldstart.judge import Judgement
from seethink.coldstart.questions import Question
from seethink.coldstart.scores import TraceScores, overlap
from seethink.coldstart.teacher import State
from seethink.config import SftConfig
from seethink.config.coldstart import ColdstartConfig
from seethink.core.types import Verdict

SELECTED = "selected"


@dataclass(frozen=True, slots=True)
class Trace:
    """What is known of one sample of a question."""

    key: str
    state: State
    verdict: Verdict | None = None
    """None where it is no trace, or not graded yet."""
    decided: str = ""
    scores: TraceScores | None = None
    """None where it is no trace."""
    perplexity: float | None = None
    """Under the student; None where it was not measured."""
    reward: float | None = None
    """Of the reward model; None where there is none, or it has not scored it."""
    is_unscorable: bool = False
    """Whether the reward model cannot read it."""
    judged: Judgement | None = None
    """None where no judge has read it."""


@dataclass(slots=True)
class Outcome:
    """What became of a question."""

    question: Question
    traces: Sequence[Trace]
    against: dict[str, list[str]] = field(default_factory=dict)
    """Key of a trace -> every reason against it, the one that counts first."""
    reason: str = SELECTED
    """`selected`, or the first reason why none of its traces is."""
    chosen: list[str] = field(default_factory=list)
    """Keys of the traces that are selected."""
    is_validation: bool = False

    @property
    def right(self) -> int:
        return sum(trace.verdict is Verdict.CORRECT for trace in self.traces)

    @property
    def done(self) -> int:
        """Traces that are whole."""
        return sum(trace.state == "done" for trace in self.traces)


def select(
    questions: Sequence[Question], traces: Mapping[str, Sequence[Trace]], config: ColdstartConfig, filters: SftConfig
) -> list[Outcome]:
    """One outcome per question, in their order. `traces` has the samples of each question by its key, in order."""
    outcomes = [_decide(question, traces.get(question.key, ()), config, filters) for question in questions]
    _fill_quotas(outcomes, config.quotas)
    _hold_out(outcomes, config.val_share)
    return outcomes


def _decide(question: Question, traces: Sequence[Trace], config: ColdstartConfig, filters: SftConfig) -> Outcome:
    outcome = Outcome(question, traces)
    outcome.against = {trace.key: _against(trace, config, filters) for trace in traces}
    good = [trace for trace in traces if not outcome.against[trace.key]]
    if not good:
        outcome.reason = _first_reason(outcome)
    elif question.choices and outcome.right < config.choice_right and not _is_supported(good):
        outcome.reason = "perhaps_chance"
    elif config.max_pass < 1 and outcome.right > config.max_pass * len(traces):
        outcome.reason = "too_easy"
    else:
        outcome.chosen = _best(good, config)
    return outcome


def _against(trace: Trace, config: ColdstartConfig, filters: SftConfig) -> list[str]:
    if trace.state != "done" or trace.scores is None:
        return [trace.state]
    if trace.verdict is None:
        return ["not_graded"]
    found = reasons(trace.scores, trace.verdict, filters)
    found += ["rambling"] if trace.scores.compression > config.max_compression and "rambling" not in found else []
    found += ["language_switched"] if trace.scores.other_script > config.max_other_script else []
    found += ["control_token"] if trace.scores.control_tokens else []
    found += ["too_short"] if trace.scores.tokens < config.min_tokens else []
    if config.max_perplexity is not None and (trace.perplexity or 0.0) > config.max_perplexity:
        found.append("surprising")
    rewarded = config.reward_model is not None or config.reward_checkpoint is not None
    if rewarded and trace.verdict is Verdict.CORRECT:
        found += _rewarded(trace, config)
    if config.judge is not None and trace.verdict is Verdict.CORRECT:
        found += _judged(trace.judged, config)
    return found


def _rewarded(trace: Trace, config: ColdstartConfig) -> list[str]:
    if trace.reward is None:
        return ["unscorable" if trace.is_unscorable else "not_scored"]
    return ["low_reward"] if config.min_reward is not None and trace.reward < config.min_reward else []


def _judged(judged: Judgement | None, config: ColdstartConfig) -> list[str]:
    if judged is None:
        return ["not_judged"]
    found = {
        "rambling_judged": judged.rambling > config.max_rambling,
        "incoherent": judged.coherent < config.min_coherent,
        "mixed_judged": judged.mixed,
        "unsupported": not judged.supports,
    }
    return [reason for reason, holds in found.items() if holds]


def _is_supported(good: Sequence[Trace]) -> bool:
    """Whether a judge says of one of the traces that its reasoning leads to the answer: then it is no chance."""
    return any(trace.judged is not None and trace.judged.supports for trace in good)


def _first_reason(outcome: Outcome) -> str:
    """That of the trace that came furthest: a right one before a wrong one, a whole one before none."""
    if not outcome.traces:
        return "not_asked"
    rank = {Verdict.CORRECT: 0, Verdict.ERROR: 1, None: 2}
    nearest = min(
        outcome.traces, key=lambda t: (t.state != "done", rank.get(t.verdict, 2), len(outcome.against[t.key]))
    )
    return outcome.against[nearest.key][0]


def _best(good: Sequence[Trace], config: ColdstartConfig) -> list[str]:
    """The traces of the highest reward, or the shortest ones, of which no two are nearly the same."""
    chosen: list[Trace] = []
    for trace in sorted(good, key=lambda trace: (-(trace.reward or 0.0), _scores(trace).tokens, trace.key)):
        if len(chosen) == config.per_question:
            break
        if all(overlap(_scores(trace), _scores(other)) <= config.max_alike for other in chosen):
            chosen.append(trace)
    return [trace.key for trace in chosen]


def _scores(trace: Trace) -> TraceScores:
    assert trace.scores is not None
    return trace.scores


def _fill_quotas(outcomes: Sequence[Outcome], quotas: Mapping[str, int]) -> None:
    """Keep so many questions of a domain; which ones follows from their keys, which are hashes."""
    taken: Counter[str] = Counter()
    for outcome in sorted((o for o in outcomes if o.chosen), key=lambda o: o.question.key):
        domain = outcome.question.domain
        if taken[domain] >= quotas.get(domain, quotas.get("*", taken[domain] + 1)):
            outcome.reason, outcome.chosen = "over_quota", []
        taken[domain] += 1


def _hold_out(outcomes: Sequence[Outcome], share: float) -> None:
    """Mark whole groups, in the order of their hashes, while they fit; at least one question where there are two."""
    selected = [outcome for outcome in outcomes if outcome.chosen]
    size = round(share * len(selected)) or int(share > 0)
    groups: dict[str, list[Outcome]] = {}
    for outcome in selected:
        groups.setdefault(outcome.question.group, []).append(outcome)
    if len(groups) < 2:
        return
    left = size
    for key in sorted(groups):
        if len(groups[key]) <= left:
            left -= len(groups[key])
            for outcome in groups[key]:
                outcome.is_validation = True
