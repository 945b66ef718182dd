"""One decoder for all requests: those that wait together and are sampled alike are answered together."""

from __future__ import annotations

import queue
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from seethink.core.errors import UserError
from seethink.core.types import Completion, Prompt
from seethink.generate.in_process.generator import InProcessGenerator
from seethink.generate.in_process.sampling import Draw
from seethink.generate.protocol import Sampling
from seethink.models.load import LoadedModel
from seethink.studies.serve.requests import Asked, RequestError

STREAM = 4 * 10**6
"""Sets the random numbers of served responses apart from those of all else."""
MOST_TOGETHER = 64
_SEEDS = 2**31


@dataclass(slots=True)
class Job:
    """One request on its way through the decoder."""

    prompt: Prompt
    sampling: Sampling
    count: int
    seed: int
    on_draw: Callable[[Draw], None] | None = None
    """For a stream, which is answered alone."""
    answer: Future[list[Completion]] = field(default_factory=Future)


class Engine:
    """Answers jobs in a thread of its own until it is closed."""

    def __init__(self, loaded: LoadedModel, *, max_new_tokens: int) -> None:
        self.loaded, self._longest = loaded, max_new_tokens
        self._generator = InProcessGenerator(loaded)
        self._jobs: queue.Queue[Job | None] = queue.Queue()
        self._held: Job | None = None
        self._processing = threading.Lock()
        """Tokenizers are not made for several threads."""
        self._thread = threading.Thread(target=self._run, name="decoder", daemon=True)
        self._thread.start()

    def submit(self, asked: Asked, on_draw: Callable[[Draw], None] | None = None) -> Job:
        """Queue a request. Raises RequestError where the model cannot take it."""
        request = asked.request
        try:
            with self._processing:
                prompt = self.loaded.chat.prompt(asked.sample)
        except UserError as error:
            raise RequestError(str(error)) from None
        wanted = request.max_completion_tokens or request.max_tokens or self._longest
        room = min(wanted, self._longest)
        if self.loaded.chat.context is not None:
            room = min(room, self.loaded.chat.context - len(prompt.input_ids))
        if room < 1:
            raise RequestError(f"the prompt of {len(prompt.input_ids)} tokens fills the model's positions")
        seed = secrets.randbelow(_SEEDS) if request.seed is None else request.seed
        job = Job(prompt, Sampling(room, request.temperature, request.top_p), request.n, seed, on_draw)
        self._jobs.put(job)
        return job

    def close(self) -> None:
        """End after what is being answered."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._next()) is not None:
            jobs = self._with_those_alike(first)
            try:
                self._generator.on_draw = first.on_draw
                groups = self._generator.generate(
                    [job.prompt for job in jobs],
                    first.count,
                    first.sampling,
                    (STREAM,),
                    places=[job.seed for job in jobs],
                )
            except Exception as error:  # of one request: the others go on
                for job in jobs:
                    job.answer.set_exception(error)
                continue
            for job, completions in zip(jobs, groups, strict=True):
                job.answer.set_result(completions)

    def _next(self) -> Job | None:
        held, self._held = self._held, None
        return held if held is not None else self._jobs.get()

    def _with_those_alike(self, first: Job) -> list[Job]:
        """The jobs that wait directly behind it and are sampled alike; a stream is alone."""
        jobs = [first]
        while first.on_draw is None and len(jobs) < MOST_TOGETHER:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self._jobs.put(None)
                break
            if job.on_draw is not None or (job.sampling, job.count) != (first.sampling, first.count):
                self._held = job
                break
            jobs.append(job)
        return jobs
