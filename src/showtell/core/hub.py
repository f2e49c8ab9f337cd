"""Downloads from the Hugging Face Hub."""

from collections.abc import Iterator
from contextlib import contextmanager

REACHED = 10.0  # seconds in which the Hub answers, or counts as out of reach


@contextmanager
def asking_hub() -> Iterator[None]:
    """While the Hub cannot be reached, its client looks in its cache alone; it would try for a minute, with a warning
    each time."""
    import httpx  # imported late, as is the client, which the extras bring
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    try:
        if not before:
            httpx.head(constants.ENDPOINT, timeout=REACHED)
    except httpx.HTTPError:
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
