"""Runs a plan: one process with one thread per job, parents before children, as many at a time as there are cores.

Finished jobs are skipped, killed jobs continue, and a job that fails stops only its descendants.
"""

from __future__ import annotations

import heapq
import multiprocessing
import os
import platform
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seethink.core.exits import EXIT_RESUME, RunStopped
from seethink.core.files import write_json
from seethink.runs.reading import final_model, read_object
from seethink.studies.lab import job_process
from seethink.studies.lab.plan import Job, Plan, descendants

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext

RETRIES = 2
"""How often a job is started again after a signal, or after it saved and stopped."""
LOG = "log.txt"
"""In a job's folder: what its processes said."""
START = "--- start\n"
"""Separates the output of a job's processes in its log."""
INDEX = "lab.json"
"""In the lab's folder: the planned arms, their folders and their states."""

Say = Callable[[str], None]


@dataclass
class Outcome:
    done: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    """Key -> the first cause, on one line."""


def run_plan(plan: Plan, out: Path, jobs: int, say: Say) -> Outcome:
    """Run the jobs that are not finished, and write lab.json. Raises RunStopped after SIGTERM or Ctrl-C."""
    runner = _Runner(plan, jobs, say)
    with _stoppable(runner.stop):
        try:
            runner.run()
        finally:
            write_index(plan, out, runner.outcome)
    if runner.stopped:
        raise RunStopped("stopped; the same command continues where the arms were saved")
    return runner.outcome


def is_finished(job: Job) -> bool:
    """Whether the arm is trained, and measured with the settings of the plan."""
    done = job_process.finished(job.folder)
    return is_trained(job) and all(done.get(name) == settings for name, settings in job.measurements.items())


def is_trained(job: Job) -> bool:
    return job.recipe is None or final_model(job.folder) is not None


class _Runner:
    def __init__(self, plan: Plan, jobs: int, say: Say) -> None:
        self._plan, self._slots, self._say = plan, jobs, say
        self.outcome = Outcome({key for key, job in plan.jobs.items() if is_finished(job)})
        self.stopped = False
        self._running: dict[str, BaseProcess] = {}
        self._ended: queue.SimpleQueue[tuple[Job, int]] = queue.SimpleQueue()
        self._starts: dict[str, int] = {}
        self._waiting: list[tuple[float, str]] = []
        """A heap; the job with the most work depending on it comes first."""
        self._clock = Clock(plan, self.outcome.done, jobs)

    def run(self) -> None:
        todo = [job for key, job in self._plan.jobs.items() if key not in self.outcome.done]
        self._say(f"{len(self._plan.jobs)} jobs, {len(todo)} to do; {self._slots} at once; {self._clock.left()}")
        for job in todo:
            if job.parent is None or is_trained(job.parent):
                self._enqueue(job)
        self._start_some()
        while self._running:
            job, code = self._ended.get()
            del self._running[job.key]
            self._settle(job, code)
            self._start_some()

    def stop(self) -> None:
        self.stopped = True
        for child in self._running.values():
            child.terminate()

    def _enqueue(self, job: Job) -> None:
        behind = [job, *descendants(list(self._plan.jobs.values()), job)]
        heapq.heappush(self._waiting, (-sum(map(self._plan.seconds, behind)), job.key))

    def _start_some(self) -> None:
        while self._waiting and len(self._running) < self._slots and not self.stopped:
            self._start(self._plan.jobs[heapq.heappop(self._waiting)[1]])

    def _start(self, job: Job) -> None:
        self._starts[job.key] = self._starts.get(job.key, 0) + 1
        write_job(job)
        with (job.folder / LOG).open("ab") as log:
            log.write(START.encode())
        child = _processes().Process(target=job_process.run, args=(job.folder, job.folder / LOG))
        child.start()
        self._running[job.key] = child

        def wait() -> None:
            child.join()
            self._ended.put((job, child.exitcode or 0))

        threading.Thread(target=wait, daemon=True).start()

    def _settle(self, job: Job, code: int) -> None:
        done = len(self.outcome.done) + 1
        if code == 0:
            self.outcome.done.add(job.key)
            self._clock.finish(job)
            self._say(f"[{done}/{len(self._plan.jobs)}] {job.label} {_times(job)}; {self._clock.left()}")
            self._enqueue_children(job)
        elif self.stopped:
            return
        elif (code < 0 or code == EXIT_RESUME) and self._starts[job.key] <= RETRIES:
            self._say(f"{job.label} was interrupted (exit code {code}) and continues")
            self._enqueue(job)
        else:
            self._fail(job, code)

    def _enqueue_children(self, job: Job) -> None:
        for child in self._plan.jobs.values():
            if child.parent is job and child.key not in self._starts and child.key not in self.outcome.done:
                self._enqueue(child)

    def _fail(self, job: Job, code: int) -> None:
        """Record the failure. Children of an arm that was trained but could not be measured still run."""
        cause = first_cause(job.folder / LOG) or f"exit code {code}"
        self.outcome.failed[job.key] = cause
        self._say(f"FAILED {job.label} ({', '.join(sorted(job.names))}): {cause}; log: {job.folder / LOG}")
        if is_trained(job):
            self._enqueue_children(job)
            return
        for lost in descendants(list(self._plan.jobs.values()), job):
            self.outcome.failed.setdefault(lost.key, f"its parent {job.label} failed: {cause}")


class Clock:
    """Estimates the time left from the plan, corrected by how far the plan has been off so far."""

    def __init__(self, plan: Plan, done: set[str], jobs: int) -> None:
        self._plan, self._jobs = plan, jobs
        self._left = {key: plan.seconds(job) for key, job in plan.jobs.items() if key not in done}
        self._planned = self._taken = 0.0

    def finish(self, job: Job) -> None:
        self._planned += self._left.pop(job.key, 0.0)
        self._taken += sum(wall for wall, _ in read_times(job.folder).values())

    def left(self) -> str:
        pace = self._taken / self._planned if self._planned else 1.0
        minutes = pace * sum(self._left.values()) / self._jobs / 60
        return f"about {minutes // 60:.0f} h {minutes % 60:.0f} min left"


def write_job(job: Job) -> None:
    """Write job.json: everything that the job's process needs."""
    job.folder.mkdir(parents=True, exist_ok=True)
    recipe = None
    if job.recipe is not None:
        assert job.parent is not None or job.model
        model = _model_of(job.parent) if job.parent else job.model
        recipe = job.recipe.model_copy(update={"model": model, "out": str(job.folder)}).as_table()
    about = {"recipe": recipe, "model": job.model, "collect": job.collect, "measurements": job.measurements}
    if job.undo and (trained := job.parent) is not None:
        before = _model_of(trained.parent) if trained.parent else trained.model
        about["undo"] = {"after": _model_of(trained), "before": before, "parts": job.undo}
    write_json(job.folder / job_process.FILE, about)


def _model_of(job: Job) -> str:
    return job.model if job.recipe is None else str(final_model(job.folder))


def _processes() -> SpawnContext | ForkServerContext:
    """Processes that are forked from one that has the libraries, where the system can fork: importing takes seconds."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["seethink.studies.lab.warm"])
    return context


def first_cause(log: Path) -> str | None:
    """The cause in a failed job's newest log: the line of a user error, or the last line that is not blank."""
    newest = log.read_text(encoding="utf-8", errors="replace").rpartition(START)[2]
    lines = [line.strip() for line in newest.splitlines() if line.strip()]
    said = [line for line in lines if line.startswith("error: ")]
    return next(iter((said or lines)[-1:]), None)


def read_times(folder: Path) -> dict[str, tuple[float, float]]:
    """Part -> (wall, CPU seconds)."""
    return read_object(folder / "times.json")


def _times(job: Job) -> str:
    return ", ".join(f"{part} {wall:.0f} s" for part, (wall, _) in read_times(job.folder).items())


def write_index(plan: Plan, out: Path, outcome: Outcome) -> None:
    """Write lab.json, which keeps the entries that earlier calls made for other experiments."""
    path = out / INDEX
    before = {"experiments": {}} | read_object(path)
    before["facts"] = _facts()
    for experiment in plan.experiments:
        before["experiments"][experiment.name] = {
            "scale": plan.scale_name,
            "seeds": len(plan.seeds),
            "arms": {
                name: [_entry(plan.jobs[key], outcome) for key in keys]
                for name, keys in plan.arms[experiment.name].items()
            },
        }
    out.mkdir(parents=True, exist_ok=True)
    write_json(path, before)


def _facts() -> dict[str, str]:
    """Date, machine and commit; no commit where the sources are not in a git repository."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        commit = ""
    cores = f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}"
    return {"Date": time.strftime("%Y-%m-%d"), "Machine": cores, "Commit": commit}


def _entry(job: Job, outcome: Outcome) -> dict[str, Any]:
    trained = job.key in outcome.done or is_trained(job)
    state = "trained" if trained else "failed" if job.key in outcome.failed else "waiting"
    cause = outcome.failed.get(job.key)
    return {"folder": f"arms/{job.label}", "seed": job.seed, "state": state, **({"cause": cause} if cause else {})}


@contextmanager
def _stoppable(stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and Ctrl-C call `stop` inside the block."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: stop()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def wall_seconds(plan: Plan, done: set[str], jobs: int) -> float:
    """Seconds that the plan takes with `jobs` cores: the scheduler's order, simulated with the planned seconds."""
    everything = list(plan.jobs.values())
    weight = {j.key: sum(map(plan.seconds, [j, *descendants(everything, j)])) for j in everything}
    free, ends, now = [0.0] * jobs, dict.fromkeys(done, 0.0), 0.0
    waiting = [j for j in everything if j.key not in done]
    while waiting:
        ready_at = {j.key: ends[j.parent.key] if j.parent and j.parent.key in ends else 0.0 for j in waiting}
        ready = [j for j in waiting if j.parent is None or j.parent.key in ends]
        now = heapq.heappop(free)
        startable = [j for j in ready if ready_at[j.key] <= now]
        if not startable:
            heapq.heappush(free, min(ready_at[j.key] for j in ready))
            continue
        job = max(startable, key=lambda j: weight[j.key])
        ends[job.key] = now + plan.seconds(job)
        heapq.heappush(free, ends[job.key])
        waiting.remove(job)
    return max(ends.values(), default=0.0)
