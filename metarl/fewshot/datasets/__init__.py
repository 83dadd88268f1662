"""The few-shot data sets, one file each."""
