"""A model on benchmarks: answers, grades, scores and the page, in one folder that a second call goes on with."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from seethink.config import ReadConfig, RewardConfig, ToolConfig
from seethink.config.endpoint import EndpointConfig
from seethink.core.console import console, say
from seethink.core.errors import UserError
from seethink.core.files import require_writable, write_json
from seethink.core.redact import visible
from seethink.eval.bench.answerers import Answerer, InProcess, Server
from seethink.eval.bench.benchmark import Benchmark
from seethink.eval.bench.conversing import ConversingServer
from seethink.eval.bench.download import download
from seethink.eval.bench.generations import Settings
from seethink.eval.bench.grades import BenchGrader
from seethink.eval.bench.load import load
from seethink.eval.bench.results import EVAL, item_records, score_record, settings_of, write_results
from seethink.eval.bench.runner import BenchRun, Ran
from seethink.eval.bench.statistics import BenchScore, bench_score
from seethink.eval.bench.table import chance_line, part_lines, score_tables
from seethink.eval.tasks.registry import BENCHMARKS
from seethink.report.benchmarks.page import write_bench_page
from seethink.runs.identity import versions
from seethink.runs.lock import FolderLock

SETTINGS = "bench.json"
"""What the answers in a folder were made with: other settings belong in another folder."""
UNSCORED = 0.01
"""A benchmark of which more of the answers could not be scored has no score to speak of."""
PAGE = "report.html"
_UNTOLD = {"blind": False}
"""Settings that older folders do not name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchCommand:
    """What to run, on what, and where to."""

    benchmarks: Sequence[Benchmark]
    settings: Settings
    out: Path
    data: Path | None = None
    """Folder of the data; None: where an earlier call found them, else `$SEETHINK_BENCH`."""
    model: str | None = None
    """In this process; None with a server, and for grading alone."""
    server: EndpointConfig | None = None
    limit: int | None = None
    """Items of a stratified sample; None for all."""
    reward: RewardConfig | None = None
    """Of which the verifier is used."""
    reading: ReadConfig = field(default_factory=ReadConfig)
    """Of which `image_*` are used, by a model in this process."""
    tools: ToolConfig = field(default_factory=ToolConfig)
    """What a model may call; the final turn is its answer."""
    counts_refused: bool = False
    """Requests that the server refuses for good count as wrong."""
    download: bool = False
    """Fetch what is absent from the hub."""

    def run(self) -> list[BenchScore]:
        """Answer what is not answered yet, then grade and score. Raises UserError."""
        require_writable(self.out)
        with FolderLock(self.out, "--out "), ExitStack() as stack:
            root = self._root()
            answerer, label = self._answerer(stack)
            identity = answerer.identity
            _claim(self.out, self._record(identity, label, root))
            grader = self._grader(stack)
            rans = [self._one(benchmark, root, grader, answerer, identity) for benchmark in self.benchmarks]
            return finish(self.out, self._about(label), rans)

    def regrade(self) -> list[BenchScore]:
        """Grade the stored answers anew, without a model. Raises UserError."""
        stored = settings_of(self.out / SETTINGS)
        if stored is None:
            raise UserError(
                f"--regrade: {self.out} has no answers of `seethink eval --bench`; give its folder as --out"
            )
        settings = Settings(**stored["settings"])
        command = replace(self, settings=settings, limit=stored["limit"])
        with FolderLock(self.out, "--out "), ExitStack() as stack:
            root, grader = self._root(), self._grader(stack)
            rans = [command._one(benchmark, root, grader, None, {}) for benchmark in self.benchmarks]
            return finish(self.out, command._about(str(stored["label"])), rans)

    def _one(
        self, benchmark: Benchmark, root: Path, grader: BenchGrader, answerer: Answerer | None, identity: dict[str, Any]
    ) -> Ran:
        limit, seed = self.limit, self.settings.seed
        if self.download:
            download(benchmark, root)
        loaded = load(benchmark, root, images=answerer is not None, limit=limit, seed=seed, show=True)
        if not loaded.is_whole:
            sizes = f"{len(loaded.items):,} of {loaded.total:,} items"
            say(f"{benchmark.name}: {sizes} (--limit): a sample, whose score is not the benchmark's", "yellow")
        if self.settings.blind:
            loaded = replace(loaded, items=tuple(item.without_images() for item in loaded.items))
        run = BenchRun(benchmark, loaded, self.settings, self.out, grader)
        try:
            return run.regrade() if answerer is None else run.run(answerer, identity)
        finally:
            run.close()

    def _root(self) -> Path:
        """Raises UserError where no folder of data is known."""
        stored = settings_of(self.out / SETTINGS) or {}
        known = self.data or stored.get("data") or os.environ.get("SEETHINK_BENCH")
        if not known:
            raise UserError(
                "--bench needs its data: give their folder as --data, or as SEETHINK_BENCH; `seethink bench list` says "
                "what each benchmark's are"
            )
        return Path(known).expanduser()

    def _answerer(self, stack: ExitStack) -> tuple[Answerer, str]:
        """(who answers, its name for people)."""
        if self.server is not None and self.reading.image_limits:
            raise UserError("data.image_*: a server has a processor of its own: start it with these options")
        if self.server is not None and self.tools.environment is not None:
            return ConversingServer(self.server, self.counts_refused, tools=self.tools), self.server.model
        if self.server is not None:
            return Server(self.server, self.counts_refused), self.server.model
        if self.model is None:
            raise UserError("expected a MODEL, or --server URL with --model NAME")
        from seethink.generate.conversations import introduced, with_environment
        from seethink.generate.make import make_generator
        from seethink.models.load import load_model

        loaded = load_model(self.model)
        loaded.chat.limit_images(self.reading)
        loaded.chat = introduced(self.tools, loaded.chat)
        generator = with_environment(self.tools, make_generator(loaded), loaded.chat)
        stack.callback(generator.close)
        return InProcess(loaded, generator, self.tools), Path(self.model).name

    def _grader(self, stack: ExitStack) -> BenchGrader:
        config = self.reward.verifier if self.reward is not None else None
        if config is None:
            return BenchGrader()
        from seethink.rewards.verifier.verifier import Verifier

        return BenchGrader(stack.enter_context(Verifier(config, self.out)), config)

    def _record(self, identity: dict[str, Any], label: str, root: Path) -> dict[str, Any]:
        return {
            "label": label,
            "model": identity,
            "settings": asdict(self.settings),
            "limit": self.limit,
            "data": str(root.absolute()),
        }

    def _about(self, label: str) -> dict[str, Any]:
        verifier = self.reward.verifier if self.reward is not None else None
        return {
            "label": label,
            "model": self.model or (self.server.model if self.server else None),
            "settings": asdict(self.settings),
            "limit": self.limit,
            "verifier": None if verifier is None else verifier.model,
            "versions": versions(),
            "hardware": hardware(),
        }


def finish(out: Path, about: dict[str, Any], rans: Sequence[Ran]) -> list[BenchScore]:
    """Score, write eval.json, items.jsonl and the page, and print the table."""
    scores, records, items = [], {}, []
    for ran in rans:
        score = bench_score(ran.benchmark, ran.loaded.items, ran.graded, whole=ran.loaded.is_whole)
        scores.append(score)
        records[score.name] = score_record(score, ran)
        items += item_records(ran, out)
    write_results(out, about, records, items)
    page = write_bench_page([out], out / PAGE)
    for table in score_tables(scores, visible(str(about["label"]))):
        console.print(table)
    for line in part_lines(scores):
        say(line)
    for line in _warnings(rans, scores, about):
        say(line, "yellow")
    say(f"results: {out / EVAL}; page: {page}")
    return scores


def _warnings(rans: Sequence[Ran], scores: Sequence[BenchScore], about: dict[str, Any]) -> list[str]:
    lines = []
    if about["verifier"] is None:
        lines.append("graded by rules alone; the paper's protocol asks a verifier too: reward.verifier.base_url=URL "
                     "reward.verifier.model=NAME")  # fmt: skip
    if about["settings"]["blind"]:
        lines.append("answered without images (--blind): what the words alone give, not the benchmark's score")
    for ran, score in zip(rans, scores, strict=True):
        if ran.failures:
            why = visible(ran.reason)[:200]
            lines.append(f"{score.name}: {ran.failures:,} requests got no answer (the last: {why}); the same command "
                         "asks them again; where the server refuses them for good, --count-refused counts them as "
                         "wrong")  # fmt: skip
        if said := chance_line(score):
            lines.append(f"{score.name}: {said}")
    return lines


def unscored(scores: Sequence[BenchScore]) -> str:
    """Which benchmarks have too many answers without a score; "" where none has."""
    bad = [f"{s.name} ({s.unscored:,} of {s.n * s.runs:,})" for s in scores if s.unscored_share > UNSCORED]
    return ", ".join(bad)


def _claim(out: Path, record: dict[str, Any]) -> None:
    """Note what the answers in `out` are made with. Raises UserError where those that are there were made otherwise."""
    path = out / SETTINGS
    stored = settings_of(path)
    if stored is None:
        _refuse_others(out)
    else:
        for name, now in {"model": record["model"], **record["settings"]}.items():
            before = stored.get("model") if name == "model" else stored.get("settings", {}).get(name, _UNTOLD.get(name))
            if name not in ("runs", "protocol") and before != now:
                values = f"{name} = {_brief(before)}, not {_brief(now)}"
                raise UserError(f"--out {str(out)!r} has answers made with {values}; choose another folder")
        before, now = stored.get("limit"), record["limit"]
        if before != now and (before is None or (now is not None and now < before)):
            said = "all items" if before is None else f"--limit {before}"
            raise UserError(f"--out {str(out)!r} has answers to {said}, which --limit {now} would drop; choose another "
                            "folder")  # fmt: skip
    write_json(path, record)


def _refuse_others(out: Path) -> None:
    """Raises UserError where a folder holds files that no evaluation of benchmarks made: some might be replaced."""
    others = sorted(path.name for path in out.iterdir() if not path.name.startswith("."))
    if others:
        raise UserError(f"--out {str(out)!r} holds other files, such as {others[0]!r}; choose a new or an empty folder")


def _brief(value: Any) -> str:
    return visible(str(value))[:160]


def hardware() -> dict[str, Any]:
    """The machine, for the record."""
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"machine": platform.machine(), "system": platform.system(), "cpus": os.cpu_count(), "devices": devices}


def listed(name: str) -> Benchmark:
    """The benchmark of this name. Raises UserError."""
    if name not in BENCHMARKS:
        raise UserError(f"expected one of {', '.join(BENCHMARKS)}; found {name!r}")
    return BENCHMARKS[name]
