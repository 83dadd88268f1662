"""Generation of results/ and of the documentation's tables from runs."""
