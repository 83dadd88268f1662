"""Reference algorithms that are measured next to meta-learners."""
