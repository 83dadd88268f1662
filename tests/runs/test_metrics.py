"""Selection of the best checkpoint of a run."""

import errno
import os

import pytest
from short_runs import save

from metarl.runs.directory import RunDirectory
from metarl.runs.metrics import BestCheckpoint, MetricsLog
from metarl.storage.checkpoints import read_header


def scored(run: RunDirectory, scores: dict[int, float], *, resumed_at: int = 0) -> None:
    """Iterations with these scores; a checkpoint every two."""
    log = MetricsLog(run, num_iterations=resumed_at, tracker="none")
    best = BestCheckpoint(run, "score", window=2)
    for iteration, score in scores.items():
        line = {"score": score, "time/env_steps": iteration}
        log.write(iteration, line)
        best.add({"iteration": iteration, **line})
        if iteration % 2 == 0:
            save(run, iteration)
            best.offer(iteration)
            run.drop_old_checkpoints()
    log.close()


def best_iteration(run: RunDirectory) -> int:
    return int(read_header(run.best_checkpoint)["counters"]["num_iterations"])


def test_the_best_checkpoint_has_the_best_mean_since_the_previous_one(run):
    scored(run, {1: 0.0, 2: 9.0, 3: 5.0, 4: 5.0, 5: 0.0, 6: 9.5, 7: 1.0, 8: 1.0, 9: 2.0, 10: 1.0})
    assert best_iteration(run) == 4  # means 4.5, 5, 4.75, 1, 1.5
    assert not run.checkpoint_path(4).exists()


def test_the_best_checkpoint_is_a_second_name_of_the_same_file(run):
    scored(run, {1: 0.0, 2: 1.0})
    assert run.best_checkpoint.samefile(run.checkpoint_path(2))


def test_without_hard_links_the_best_checkpoint_is_a_copy(run, monkeypatch):
    def unsupported(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", unsupported)
    scored(run, {1: 0.0, 2: 1.0})
    assert not run.best_checkpoint.samefile(run.checkpoint_path(2))
    assert run.best_checkpoint.read_bytes() == run.checkpoint_path(2).read_bytes()


@pytest.mark.parametrize(("later", "best"), [(4.0, 2), (6.0, 6)])
def test_a_resumed_run_continues_the_comparison(run, later, best):
    scored(run, {1: 5.0, 2: 5.0, 3: 0.0, 4: 1.0, 5: 100.0})
    scored(run, {5: later, 6: later}, resumed_at=4)
    assert best_iteration(run) == best


def test_a_best_checkpoint_between_two_lines_of_metrics_is_known_to_a_resumed_run(run):
    def train(iterations: range, scores: dict[int, float], *, resumed_at: int = 0) -> None:
        """A line where there is a score; a checkpoint every five iterations."""
        log = MetricsLog(run, num_iterations=resumed_at, tracker="none")
        best = BestCheckpoint(run, "score", window=5)
        for iteration in iterations:
            if iteration in scores:
                line = {"score": scores[iteration], "time/env_steps": iteration}
                log.write(iteration, line)
                best.add({"iteration": iteration, **line})
            if iteration % 5 == 0:
                save(run, iteration)
                best.offer(iteration)
        log.close()

    train(range(1, 6), {2: 1.0, 4: 9.0})
    assert best_iteration(run) == 5
    train(range(6, 11), {6: 1.0, 8: 1.0}, resumed_at=5)
    assert best_iteration(run) == 5


def test_a_best_checkpoint_that_is_damaged_is_replaced(run):
    scored(run, {1: 5.0, 2: 5.0})
    run.best_checkpoint.write_bytes(b"damaged")
    scored(run, {3: 1.0, 4: 1.0}, resumed_at=2)
    assert best_iteration(run) == 4
