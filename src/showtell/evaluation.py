"""Judging the captions of test."""

from pydantic import Field

from showtell.params import Section


class EvaluateParams(Section):
    """What `evaluate` shows."""

    pictures: int = Field(ge=0, le=1000, description="test images whose attention is drawn, word by word")
