"""Alert rules: lint, the series that decide them, cases, mutants and burn rates. Pure."""
