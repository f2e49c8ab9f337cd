"""Scores of captions: the COCO protocol (`coco`), how sure they are (`bootstrap`), and what the model does.

Everything here works on plain strings and NumPy arrays, needs no deep-learning library and no Java (METEOR
alone asks for it). Import what you need from the modules; importing this package loads nothing.
"""
