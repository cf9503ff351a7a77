"""ResearchFlow's gateway: embed, search, re-rank, generate, with feature flags and a cache."""
