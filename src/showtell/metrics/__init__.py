"""Scores of captions: the COCO protocol (`protocol`), bootstrap intervals (`bootstrap`), and properties of captions.

Everything here works on plain strings and NumPy arrays, and needs no deep-learning library (CLIPScore apart) and no
Java (METEOR and SPICE apart). Import from the modules; importing this package loads nothing.
"""
