"""Evaluation of captions, and the report page."""
