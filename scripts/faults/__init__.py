"""Break runs on purpose and see what is left."""
