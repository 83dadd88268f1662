"""Report pages about runs, and tables for the terminal."""
