"""Known algorithms that play beside a meta-learner."""
