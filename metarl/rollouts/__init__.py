"""Data collected by acting: episodes, and trials of several episodes."""
