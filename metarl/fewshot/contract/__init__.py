"""What few-shot learners share: their contract, their settings and the problem that they solve."""
