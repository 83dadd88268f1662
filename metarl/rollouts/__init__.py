"""Data from playing: episodes, and trials of several episodes."""
