"""Training and evaluation as complete runs, from Python and from the command line."""
