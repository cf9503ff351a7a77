"""Nouns of the engine: pure, frozen, standard library only."""
