"""Make results/ from runs."""
