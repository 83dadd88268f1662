"""Networks as pure functions of parameters by name."""
