"""Building blocks of agents: the agent contract, policies, returns and objectives."""
