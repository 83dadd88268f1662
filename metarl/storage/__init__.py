"""Files that survive a crash: checkpoints, settings, where a result came from."""
