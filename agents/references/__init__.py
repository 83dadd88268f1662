"""Reference algorithms for comparison with meta-learners."""
