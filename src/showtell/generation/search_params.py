"""How captions are generated: sections `beam`, `search` and `sweep` of params.yaml, and the settings in a bundle."""

from typing import Annotated, Any

from pydantic import Field, ValidationError

from showtell.core.errors import UserError
from showtell.core.params import Section
from showtell.core.precision import Precision
from showtell.core.terminal import one_line

BeamWidth = Annotated[int, Field(ge=1, le=100, description="beams kept while searching; 1 is greedy")]
LengthPenalty = Annotated[float, Field(ge=0, le=5, description="score = logprob / length ** penalty; 0 = plain sum")]


class SearchSection(Section):
    """Section `search`: all but the beam's width, which has a key of its own so that `-S beam=3` is all one types."""

    max_length: int = Field(ge=1, le=1000, description="tokens generated at most, the end token counted")
    length_penalty: LengthPenalty
    block_ngrams: int = Field(ge=0, le=100, description="no n-gram of this size occurs twice; 0 = no blocking")
    allow_unknown: bool = Field(description="whether captions may hold <unk>")
    detection_weight: float = Field(ge=0, le=10, description="weight of the words the encoder detects; 0 = none")
    precision: Precision = Field(description="arithmetic of the decoder while it generates")


class SearchParams(SearchSection):
    """All settings of the search. They travel with the model: `evaluate` writes them into the bundle it scored."""

    beam: BeamWidth

    @classmethod
    def of(cls, beam: int, section: SearchSection) -> "SearchParams":
        """The sections `beam` and `search` of params.yaml as one."""
        return cls(beam=beam, **section.model_dump())

    def override(self, **changes: Any) -> "SearchParams":
        """These settings with single fields replaced; `UserError` naming a field that is unknown or out of range."""
        try:
            return SearchParams.model_validate({**self.model_dump(), **changes})
        except ValidationError as error:
            first = error.errors()[0]
            key, message = one_line(".".join(map(str, first["loc"]))), first["msg"]
            if first["type"] == "extra_forbidden":
                known = ", ".join(SearchParams.model_fields)
                raise UserError(f"{key} is no setting of the search; there are {known}") from None
            raise UserError(f"{key} = {one_line(repr(first['input']))}: {message[0].lower()}{message[1:]}") from None

    def check_n_best(self, n_best: int) -> None:
        """`UserError` when a search with these settings cannot find so many captions of an image."""
        if not 1 <= n_best <= self.beam:
            raise UserError(f"n_best = {n_best}: must be 1 to the width of the beam, {self.beam}")


# For a model that was not evaluated, and so has no settings of its own: those that params.yaml says nothing against.
PLAIN = SearchParams(
    beam=5, max_length=30, length_penalty=0.0, block_ngrams=0, allow_unknown=False, detection_weight=0.7,
    precision="fp32",
)  # fmt: skip


class SweepParams(Section):
    """The decodings that `evaluate` compares on val."""

    beams: list[BeamWidth] = Field(min_length=1, description="widths to try")
    length_penalties: list[LengthPenalty] = Field(min_length=1, description="penalties to try")
