"""What agents are made of: policies, returns, objectives."""
