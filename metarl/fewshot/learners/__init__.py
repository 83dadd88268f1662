"""The few-shot learners, one file each."""
