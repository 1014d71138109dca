"""Contenders against each other: the same work in rounds, one block each a round, one at a time."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from benchmarks.report import Spread
from benchmarks.worker import Block, ContenderFailedError, Job, Worker

Answer = TypeVar("Answer")
Figure = Callable[[Block], float]
Round = Mapping[Job, Block]


@dataclass(frozen=True)
class Comparison:
    """Rounds with one block of each job, and what is to be said about the jobs."""

    jobs: Sequence[Job]
    rounds: Sequence[Round]
    remarks: Sequence[str]

    def spread(self, job: Job, figure: Figure) -> Spread:
        return Spread.of(figure(blocks[job]) for blocks in self.rounds)

    def ratio(self, job: Job, reference: Job, figure: Figure) -> Spread | None:
        """The ratios within each round; None if either job was not measured."""
        return self.within_rounds(lambda blocks: figure(blocks[job]) / figure(blocks[reference]))

    def within_rounds(
        self, figure: Callable[[Round], float], spread: Callable[[Iterable[float]], Spread] = Spread.of
    ) -> Spread | None:
        """A figure of each round's blocks; None if it asks for a job that was not measured."""
        try:
            return spread([figure(blocks) for blocks in self.rounds])
        except KeyError:
            return None


class Field:
    """The workers of one comparison. One that fails leaves the field, with a remark."""

    def __init__(self, jobs: Sequence[Job], base_url: str) -> None:
        self.remarks: list[str] = []
        self._workers = {job: Worker(job, base_url) for job in jobs}

    def ask(self, question: Callable[[Job, Worker], Answer]) -> dict[Job, Answer]:
        """Each worker's answer in turn, of those that do not fail at it."""
        answers = {}
        for job, worker in list(self._workers.items()):
            try:
                answers[job] = question(job, worker)
            except ContenderFailedError as error:
                self.remarks.append(f"{job}: left out: {error}")
                self._workers.pop(job).close()
        return answers

    def audit(self) -> Sequence[Job]:
        """End the workers' service: the jobs that stood to the end."""
        audits = self.ask(lambda _, worker: worker.audit())
        self.remarks += [f"{job}: {remark}" for job, remark in audits.items() if remark]
        return tuple(audits)

    def close(self) -> None:
        for worker in self._workers.values():
            worker.close()


@contextmanager
def field(jobs: Sequence[Job], base_url: str) -> Iterator[Field]:
    """A field whose contenders are open, for as long as the block lasts."""
    workers = Field(jobs, base_url)
    try:
        workers.ask(lambda _, worker: worker.wait_until_ready())
        yield workers
    finally:
        workers.close()


def compare(jobs: Sequence[Job], base_url: str, *, rounds: int, block_seconds: float) -> Comparison:
    """Measure `jobs` in `rounds` rounds of blocks that last about `block_seconds` each."""
    with field(jobs, base_url) as workers:
        calls = workers.ask(lambda job, worker: calls_in(block_seconds, job, worker))
        played = [workers.ask(lambda job, worker: worker.block(calls[job])) for _ in range(rounds)]
        stood = workers.audit()
    return Comparison(stood, [{job: blocks[job] for job in stood} for blocks in played], workers.remarks)


def calls_in(seconds: float, job: Job, worker: Worker) -> int:
    """How many calls last about `seconds`, found by trying; `least_calls` even if they last longer."""
    least = calls = least_calls(job.in_flight)
    while (block := worker.block(calls)).seconds < seconds / 2:
        calls = max(2 * calls, round(calls * seconds / block.seconds / 2))
    return max(least, round(calls * seconds / block.seconds))


def least_calls(in_flight: int) -> int:
    """Fewer in a block would measure the first starts and the last ends rather than calls in flight."""
    return 1 if in_flight == 1 else max(200, 2 * in_flight)
