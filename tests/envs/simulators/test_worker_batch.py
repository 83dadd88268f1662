"""Worker processes: identical results for any number of them, and complete cleanup."""

import gc
import math
import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.append(
    str(Path(__file__).parents[2] / "support")
)  # workers import the family below by its name

from tiny_environments import DIE, EXIT, HANG, RAISE, Counters, Unmakable, count_workers

from metarl.envs.simulators.worker_batch import WorkerBatch, _num_workers
from metarl.envs.simulators.worker_pool import WorkerError
from metarl.rollouts.episodes import Episodes, collect

TASKS = np.array([[1.0, 0.0], [-2.0, 1.0], [3.0, 0.0]])
PROGRAM = Path(__file__).parents[2] / "support" / "stepping_without_close.py"

GetBatch = Callable[[int], WorkerBatch]


@pytest.fixture(scope="module")
def workers() -> Iterator[GetBatch]:
    """Batches by number of workers, shared by the tests that leave them alive."""
    batches: dict[int, WorkerBatch] = {}

    def batch(num_workers: int) -> WorkerBatch:
        if num_workers not in batches or batches[num_workers]._pool.is_closed:
            batches[num_workers] = Counters(num_workers).make_batch(TASKS, num_envs=2)
        batches[num_workers].set_tasks(TASKS)
        return batches[num_workers]

    yield batch
    for each in batches.values():
        each.close()


@pytest.fixture
def left_behind() -> Iterator[Callable[[list[int]], None]]:
    """Asserts that processes are gone and that there are no shared files but those before."""
    before = set(os.listdir("/dev/shm"))

    def nothing(pids: list[int]) -> None:
        assert pids
        assert [pid for pid in pids if lives(pid)] == []
        assert set(os.listdir("/dev/shm")) <= before

    return nothing


def pids_of(batch: WorkerBatch) -> list[int]:
    return [process.pid for process in batch._pool.processes]


def lives(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_actor(seed: int):
    source = generator(seed)
    return lambda observations: torch.randint(0, 2, observations.shape[:2], generator=source)


def zeros_but(task: int, env: int, action: int) -> torch.Tensor:
    actions = torch.zeros(3, 2, dtype=torch.int64)
    actions[task, env] = action
    return actions


def assert_equal(left: Episodes, right: Episodes) -> None:
    for name, value in vars(left).items():
        assert torch.equal(value, getattr(right, name)), name


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_episodes_are_bitwise_equal_for_any_number_of_workers(workers, num_workers):
    few, none = workers(num_workers), workers(0)
    assert (few.num_workers, none.num_workers) == (num_workers, 0)
    assert len(pids_of(few)) == num_workers
    for seed in (0, 1):
        episodes = [collect(batch, random_actor(seed), generator(seed)) for batch in (few, none)]
        assert_equal(*episodes)
    starts = episodes[0].observations[:, :, 0, 2].flatten()
    assert (
        len(starts.unique()) == 6
    )  # all environments have different random numbers, within a worker or not


def test_another_seed_gives_other_episodes(workers):
    batch = workers(0)
    first, second, third = (batch.reset(generator(seed)) for seed in (0, 1, 0))
    assert torch.equal(first, third)
    assert (first[..., 2] != second[..., 2]).all()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_each_environment_knows_its_task_and_the_steps_are_as_computed_by_hand(
    workers, num_workers
):
    batch = workers(num_workers)
    start = batch.reset(generator())
    assert start[..., 0].tolist() == [[1, 1], [-2, -2], [3, 3]]
    step = batch.step(zeros_but(1, 0, 1))
    assert step.rewards.tolist() == [[1, 1], [-1, -2], [3, 3]]
    assert step.observations[..., 1].tolist() == [[1, 1]] * 3
    assert torch.equal(step.observations[..., 2], start[..., 2])
    assert step.observations.dtype == step.rewards.dtype == torch.float32
    successes = [batch.step(zeros_but(0, 0, 0)).success for _ in range(3)]
    assert [bool(s.all()) for s in successes] == [False, True, False]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_partial_reset_leaves_the_other_environments_bitwise_equal(workers, num_workers):
    batch, where = workers(num_workers), torch.zeros(3, 2, dtype=torch.bool)
    where[0, 1] = where[2, 0] = True
    runs = []
    for resets in (False, True):
        source, actor = generator(), random_actor(1)
        now, seen = batch.reset(source), []
        for t in range(5):
            step = batch.step(actor(now))
            now = step.observations
            if resets and t in (1, 2):
                now = batch.reset(source, where)
                assert (now[where][:, 1] == 0).all()
            seen.append(torch.cat([now, step.rewards[..., None]], -1))
        runs.append((torch.stack(seen), step))
    (plain, last), (broken, last_broken) = runs
    assert torch.equal(plain[:, ~where], broken[:, ~where])
    assert (plain[1:, where, 2] != broken[1:, where, 2]).all()
    assert last.truncated.all()
    assert torch.equal(last_broken.truncated, ~where)


def test_an_ended_environment_is_not_stepped_until_it_is_reset(workers):
    batch = workers(0)  # the environments raise if they are stepped after their end
    batch.reset(generator())
    for _ in range(5):
        last = batch.step(zeros_but(0, 0, 1))
    assert last.truncated.all()
    for _ in range(3):
        after = batch.step(zeros_but(0, 0, 1))
        assert torch.equal(after.observations, last.observations)
        assert (after.rewards == 0).all()
        assert after.truncated.all()
        assert not after.terminated.any()
    where = torch.tensor([[True, False], [False, False], [False, False]])
    batch.reset(generator(), where)
    assert batch.step(zeros_but(0, 0, 1)).rewards.tolist() == [[2, 0], [0, 0], [0, 0]]


def test_an_environment_that_ends_itself_before_the_horizon_is_truncated():
    batch = Counters(horizon=100).make_batch(TASKS, num_envs=1)
    batch.reset(generator())
    ends = [bool(batch.step(torch.zeros(3, 1)).truncated.all()) for _ in range(8)]
    assert ends == [False] * 5 + [True] * 3


def test_returned_tensors_are_not_changed_by_later_steps(workers):
    batch = workers(2)
    start = batch.reset(generator())
    step = batch.step(zeros_but(0, 0, 1))
    handed_out = [start, *(part for part in step if part is not None)]
    kept = [part.clone() for part in handed_out]
    batch.step(zeros_but(1, 1, 1))
    batch.reset(generator(5))
    assert all(torch.equal(a, b) for a, b in zip(kept, handed_out, strict=True))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_other_tasks_are_set_at_the_next_reset_in_environments_of_their_kind(workers, num_workers):
    batch, changed = workers(num_workers), TASKS[[1, 0, 2]].copy()
    batch.reset(generator())
    before = batch.render(2, 0)[0, 1, 0]
    batch.set_tasks(changed)
    first = torch.tensor([[True, True], [False, False], [False, False]])
    assert batch.reset(generator(), first)[..., 0].tolist() == [[-2, -2], [-2, -2], [3, 3]]
    assert batch.reset(generator())[..., 0].tolist() == [[-2, -2], [1, 1], [3, 3]]
    assert [int(batch.render(task, 1)[0, 0, 2]) for task in range(3)] == [1, 0, 0]
    assert batch.render(2, 0)[0, 1, 0] == before  # a task that stays is not applied again
    changed[2] = [4.0, 1.0]  # in place
    batch.set_tasks(changed)
    assert batch.reset(generator())[2, :, 0].tolist() == [4, 4]
    fresh = Counters(num_workers=0).make_batch(changed, num_envs=2)
    assert_equal(*(collect(b, random_actor(3), generator(3)) for b in (batch, fresh)))


def test_the_family_and_its_tasks_survive_pickling():
    family = Counters()
    copied, tasks = pickle.loads(pickle.dumps((family, TASKS)))
    batches = [f.make_batch(tasks, num_envs=2) for f in (family, copied)]
    assert_equal(*(collect(batch, random_actor(0), generator()) for batch in batches))
    assert batches[1].reset(generator())[:, 0, 0].tolist() == [1, -2, 3]


def test_workers_compute_on_one_thread_and_leave_interrupts_to_the_parent(workers):
    before = os.environ.get("OMP_NUM_THREADS")
    batch = workers(2)
    batch.reset(generator())
    assert batch.render(0, 0)[0, 0, :2].tolist() == [1, 1]
    assert os.environ.get("OMP_NUM_THREADS") == before


def test_the_number_of_workers_is_limited_and_0_for_few_environments(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    requested = [(None, 7), (None, 8), (None, 100), (9, 3), (2, 100), (0, 100)]
    assert [_num_workers(*each, object()) for each in requested] == [0, 4, 4, 3, 2, 0]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert _num_workers(None, 100, object()) == 0


def test_a_daemon_process_starts_no_workers():
    """Python does not allow it."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply_async(count_workers, (TASKS,)).get(timeout=60) == 0


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_environment_that_raises_is_named_with_its_traceback(workers, left_behind, num_workers):
    batch = workers(num_workers)
    batch.reset(generator())
    pids = pids_of(batch) if num_workers else []
    with pytest.raises(WorkerError) as raised:
        batch.step(zeros_but(1, 0, RAISE))
    message = str(raised.value)
    assert "while stepping, in environment 0 of task 1 (values [-2.0, 1.0]): " in message
    line, _, traceback = message.partition("\n")
    assert re.search(r"KeyError: 'the cup is empty' \(tiny_environments.py, line \d+\)$", line)
    assert traceback.startswith("Traceback")
    assert "in misbehave" in traceback
    assert (raised.value.task, raised.value.env) == (1, 0)
    if num_workers:
        left_behind(pids)
    with pytest.raises(RuntimeError, match="the batch is closed; create another one"):
        batch.reset(generator())


def test_a_worker_that_hangs_is_detected_and_all_are_ended(workers, left_behind):
    batch = workers(2)
    batch.reset(generator())
    pids = pids_of(batch)
    message = (
        r"worker 1 did not answer within 0.5 s while stepping, in environment 1 of task 2 "
        r"\(values \[3.0, 0.0\]\)"
    )
    with pytest.raises(WorkerError, match=message):
        batch.step(zeros_but(2, 1, HANG))
    left_behind(pids)


def test_a_worker_that_is_killed_while_idle_is_named(workers, left_behind):
    batch = workers(3)
    batch.reset(generator())
    pids = pids_of(batch)
    os.kill(pids[1], signal.SIGKILL)
    message = (
        r"worker 1 died \(exit code -9\) while stepping, outside of its environments, "
        r"environment 0 of task 1 \(values \[-2.0, 1.0\]\) to environment 1 of task 1"
    )
    with pytest.raises(WorkerError, match=message):
        batch.step(zeros_but(0, 0, 0))
    left_behind(pids)


def test_a_worker_that_dies_in_an_environment_is_named_with_it(workers, left_behind):
    batch = workers(1)
    batch.reset(generator())
    pids = pids_of(batch)
    message = r"worker 0 died \(exit code 7\) while stepping, in environment 1 of task 0 \(values"
    with pytest.raises(WorkerError, match=message):
        batch.step(zeros_but(0, 1, DIE))
    left_behind(pids)


def test_an_environment_cannot_end_the_program(workers):
    batch = workers(0)
    batch.reset(generator())
    with pytest.raises(WorkerError, match="SystemExit: 3"):
        batch.step(zeros_but(0, 1, EXIT))


def test_an_environment_that_cannot_be_created_is_named():
    with pytest.raises(
        WorkerError, match=r"(?s)while starting, in .*no license for this"
    ) as raised:
        Unmakable(num_workers=1).make_batch(TASKS, num_envs=2)
    assert (raised.value.task, raised.value.env) == (0, 0)


def test_the_workers_of_a_deleted_batch_end(left_behind):
    batch = Counters(num_workers=1).make_batch(TASKS, num_envs=1)
    batch.reset(generator())
    pids = pids_of(batch)
    assert all(lives(pid) for pid in pids)
    del batch
    gc.collect()
    left_behind(pids)


def test_an_interrupt_closes_a_batch_whose_workers_are_busy(workers, left_behind, monkeypatch):
    batch = workers(1)
    batch.reset(generator())
    pids = pids_of(batch)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(batch._pool, "_receive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        batch.step(zeros_but(0, 0, 0))
    left_behind(pids)
    batch.close()


def test_a_program_that_ends_without_closing_leaves_nothing_behind(left_behind):
    with start_program() as returning, start_program() as killed:
        pids = [int(program.stdout.readline()) for program in (returning, killed)]
        assert all(lives(pid) for pid in pids)
        killed.kill()
        os.killpg(returning.pid, signal.SIGINT)  # as Ctrl-C does: to the worker too
        assert returning.stdout.readline() == "interrupted 4.0\n"
        _, complaints = returning.communicate("\n")
        assert (returning.returncode, complaints) == (0, "")
    deadline = time.monotonic() + 30
    while lives(pids[1]) and time.monotonic() < deadline:
        time.sleep(0.05)
    left_behind(pids)


def start_program() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(PROGRAM)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_invalid_calls_are_rejected_with_one_sentence():
    class Local(Counters):
        """Not importable by a worker."""

    with pytest.raises(TypeError, match=r"family must be picklable .* top level of a module"):
        Local(num_workers=1).make_batch(TASKS, num_envs=2)
    batch = Counters().make_batch(TASKS, num_envs=2)
    with pytest.raises(RuntimeError, match="must be reset before its first step"):
        batch.step(zeros_but(0, 0, 0))
    with pytest.raises(RuntimeError, match="must be reset before its first step"):
        batch.reset(generator(), torch.ones(3, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="tasks must have 3 rows as before, got 2"):
        batch.set_tasks(TASKS[:2])
    with pytest.raises(ValueError, match="tasks must lie in"):
        batch.set_tasks(TASKS + 3)
    batch.close()
    batch.close()
    for call in (lambda: batch.step(zeros_but(0, 0, 0)), lambda: batch.set_tasks(TASKS)):
        with pytest.raises(RuntimeError, match="the batch is closed; create another one"):
            call()
    cpu = torch.device("cpu")
    for settings, message in (
        ({"num_workers": -1}, "num_workers must be 0 or more, got -1"),
        ({"timeout_seconds": 0}, r"timeout_seconds must lie in \(0, ∞\), got 0"),
        ({"timeout_seconds": math.inf}, r"timeout_seconds must lie in \(0, ∞\), got inf"),
    ):
        with pytest.raises(ValueError, match=message):
            WorkerBatch(Counters(), TASKS, 2, cpu, **settings)
    with pytest.raises(ValueError, match="num_envs must be 1 or more, got 0"):
        WorkerBatch(Counters(), TASKS, 0, cpu)
