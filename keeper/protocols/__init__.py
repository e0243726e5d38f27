"""Lending protocols: what to watch, how logs fold, what a position is worth, what may be taken."""
