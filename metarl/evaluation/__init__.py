"""How well agents adapt to unseen tasks."""
