"""The page about runs, and tables in a terminal."""
