"""A program that survives an interrupt and ends, or is killed, without closing its batch."""

import signal
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

from tiny_environments import Counters

if __name__ == "__main__":
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # the parent may have set it to be ignored
    batch = Counters(num_workers=1).make_batch([[1.0, 0.0]], num_envs=2)
    batch.reset(torch.Generator())
    try:
        print(*(process.pid for process in batch._pool.processes), flush=True)
        sys.stdin.readline()
    except KeyboardInterrupt:
        rewards = batch.step(torch.ones(1, 2)).rewards
        print("interrupted", float(rewards.sum()), flush=True)
        sys.stdin.readline()
