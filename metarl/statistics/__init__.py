"""Statistics of scores [runs, tasks] with their intervals."""
