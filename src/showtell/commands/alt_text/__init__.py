"""Captions kept where other programs read them: sidecars, tables, and the pictures' own metadata."""
