"""Complete programs built on the toolkit."""
