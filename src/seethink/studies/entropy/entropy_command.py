"""`seethink entropy`: measure a checkpoint or read a stored result; print it, or its difference from another result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape

from seethink.config import EvalConfig, ReadConfig, RewardConfig, split_names
from seethink.core.console import console
from seethink.core.errors import UserError
from seethink.core.files import claim_file, json_with
from seethink.data.prompts import PromptList
from seethink.eval.task import Task
from seethink.eval.tasks.source import SourceTask, load_source_task
from seethink.models.load import load_model
from seethink.rewards.rewarder import Rewarder, command_rewarder
from seethink.studies.entropy.comparison import compare, difference_table, report_table, stored_table
from seethink.studies.entropy.measurement import EntropyReport, EntropySettings, measure_entropy, rescore_entropy
from seethink.studies.entropy.result_files import Stored, is_stored, load_report, load_stored, of_report, save_report
from seethink.studies.entropy.stored_rollouts import read_rollouts


@dataclass(frozen=True, slots=True)
class EntropyCommand:
    """The arguments of the command; see `seethink entropy --help`."""

    model: str
    data: str | None
    size: int
    samples: int
    words: str | None
    window: int | None
    threshold: float | None
    rollouts: Path | None
    max_new_tokens: int
    temperature: float
    seed: int
    against: Path | None
    out: Path | None
    reading: ReadConfig
    reward: RewardConfig

    def run(self) -> None:
        """Print tables; write `out`. Raises UserError."""
        if self.out is not None:
            claim_file(self.out, json_with("kind", "groups"), "a result of `seethink entropy`")
        # Read before anything is measured, so that a result that cannot be compared costs no measurement.
        other = load_stored(self.against) if self.against is not None else None
        result = self._result(other)
        if other is not None:
            console.print(difference_table(other, result, compare(other, result)))

    def _result(self, other: Stored | None) -> Stored:
        path = Path(self.model)
        if is_stored(path):
            stored = load_stored(path)
            if other is None:
                console.print(stored_table(stored) if path.is_dir() else report_table(load_report(path)))
            return stored
        report = self._measured(other)
        console.print(report_table(report))
        if self.out is not None:
            save_report(report, self.out)
            console.print(f"entropy: {escape(str(self.out))}", soft_wrap=True)
        return of_report(report)

    def _measured(self, other: Stored | None) -> EntropyReport:
        settings = self._settings(other)
        with command_rewarder(self.reward) as rewarder:
            return self._graded(settings, rewarder)

    def _graded(self, settings: EntropySettings, rewarder: Rewarder) -> EntropyReport:
        loaded = load_model(self.model)
        loaded.chat.limit_images(self.reading)
        data = self.data or ("world:all" if self.rollouts is None else None)
        task: Task = SourceTask("", [])
        if data is not None:
            config = EvalConfig(data=data, size=self.size)
            task = load_source_task(config, self.seed, chat=loaded.chat, reading=self.reading)
        if self.rollouts is None:
            return measure_entropy(loaded, task, settings, seed=self.seed, rewarder=rewarder)
        asked, responses = read_rollouts(self.rollouts, loaded.chat, task.samples)
        return rescore_entropy(loaded, PromptList(asked, loaded.chat), responses, settings, rewarder=rewarder)

    def _settings(self, other: Stored | None) -> EntropySettings:
        """From the options; words and threshold that were not given are those of the result to compare with."""
        standard = EntropySettings()
        words = split_names(self.words or "")
        if self.words is not None and not words:
            raise UserError("--words has no word; give words separated by commas, e.g. --words 'Wait,But'")
        before = tuple(other.words) if other is not None else standard.words
        return EntropySettings(
            words=words or before,
            window=self.window or standard.window,
            threshold=self.threshold or (other.threshold if other is not None else None),
            samples=self.samples,
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
        )
