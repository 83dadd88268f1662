"""Training and measuring as a person asks for it."""
