"""The settings of generation: sections `beam`, `search` and `sweep` of params.yaml, and the settings in a bundle."""

from numbers import Integral
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from showtell.core.errors import UserError
from showtell.core.params import Section
from showtell.core.precision import Precision
from showtell.core.terminal import one_line

Method = Literal["greedy", "beam", "diverse_beam", "sample"]
MOST = 100  # maximum number of captions per image, and of beams
LONGEST = 1000  # maximum number of tokens of a caption

Width = Annotated[int, Field(ge=1, le=MOST, description="beams kept while searching; 1 is greedy")]
BeamWidth = Width | None
LengthPenalty = Annotated[float, Field(ge=0, le=5, description="score = logprob / length ** penalty; 0 = plain sum")]

# Keys that a method needs, and keys that it reads when they are not null. All other keys are refused for it, since a
# value would have no effect.
NEEDED: dict[str, tuple[str, ...]] = {
    "greedy": (),
    "beam": ("beam",),
    "diverse_beam": ("beam", "groups", "diversity"),
    "sample": ("temperature", "seed"),
}
OPTIONAL: dict[str, tuple[str, ...]] = {"beam": ("patience",), "sample": ("top_k", "top_p")}
OWN = sorted({key for keys in (*NEEDED.values(), *OPTIONAL.values()) for key in keys})  # read by some methods only

# Defaults of keys when a call or flag changes the method and does not give them.
USUAL: dict[str, Any] = {"beam": 5, "diversity": 0.5, "temperature": 1.0, "seed": 0}


def keys_of(method: str) -> tuple[str, ...]:
    """The keys of `OWN` that `method` reads."""
    return *NEEDED[method], *OPTIONAL.get(method, ())


class SearchSection(Section):
    """Section `search`: all settings but the beam width, which is a top-level key, so that `-S beam=3` sets it."""

    method: Method = Field(description="the search: greedy, beam, diverse beam or sampling")
    min_length: int = Field(ge=1, le=LONGEST, description="tokens generated at least, the end token counted")
    max_length: int = Field(ge=1, le=LONGEST, description="tokens generated at most, the end token counted")
    length_penalty: LengthPenalty
    block_ngrams: int = Field(ge=0, le=100, description="no n-gram of this size twice, no word after itself; 0: off")
    block_around: str | None = Field(
        default=None, description="not the same one or two words before and after this word; null: none"
    )
    allow_unknown: bool = Field(description="whether captions may hold <unk>")
    detection_weight: float = Field(ge=0, le=10, description="weight of the words found in the image; 0 = none")
    consensus: float = Field(ge=0, le=100, description="weight of similar training images' captions; 0 = none")
    neighbour_ngrams: float = Field(
        default=0.0, ge=0, lt=1, description="share of similar training images' n-grams in each word; 0 = none"
    )
    neighbour_bonus: float = Field(
        default=0.0, ge=0, le=100, description="nats a word gets for its agreement with their captions; 0 = none"
    )
    patience: float | None = Field(
        default=None, ge=0, le=20, description="beam: ends when this times its width have finished; 0: none is replaced"
    )
    groups: int | None = Field(
        default=None, ge=1, le=MOST, description="diverse_beam: groups that the beam is cut into"
    )
    diversity: float | None = Field(default=None, ge=0, le=100, description="diverse_beam: nats a word costs again")
    temperature: float | None = Field(default=None, ge=1e-6, le=100, description="sample: scores are divided by it")
    top_k: int | None = Field(default=None, ge=1, description="sample: only the so many likeliest words; null: all")
    top_p: float | None = Field(
        default=None, gt=0, le=1, description="sample: only the nucleus of this mass; null: all"
    )
    seed: int | None = Field(default=None, ge=0, le=2**63 - 1, description="sample: another seed, other captions")
    precision: Precision = Field(description="arithmetic of the decoder while it generates")

    @field_validator("max_length")
    @classmethod
    def _not_below_least(cls, value: int, info: ValidationInfo) -> int:
        least = info.data.get("min_length", value)
        if value < least:
            raise PydanticCustomError("length", f"less than min_length, {least}")
        return value

    @field_validator("block_around")
    @classmethod
    def _one_word(cls, value: str | None) -> str | None:
        if value is not None and len(value.split()) > 1:
            raise PydanticCustomError("word", "must be one word of the vocabulary")
        return value or None  # a flag cannot give null

    @field_validator("patience")
    @classmethod
    def _at_least_once(cls, value: float | None) -> float | None:
        if value is not None and 0 < value < 1:
            raise PydanticCustomError("patience", "must be 1 to 20, or 0: a beam that finishes is not replaced")
        return value or None  # a flag cannot give null

    @field_validator(*(key for key in OWN if key != "beam"))
    @classmethod
    def _fits_method(cls, value: Any, info: ValidationInfo) -> Any:
        return fitting(value, info.field_name or "", info.data.get("method"))

    @property
    def compares_images(self) -> bool:
        """Whether the captions that it has found are ranked by `consensus`; samples are not ranked."""
        return bool(self.consensus) and self.method in ("beam", "diverse_beam")

    @property
    def gives_bonuses(self) -> bool:
        """Whether words get `neighbour_bonus`; samples are drawn without it."""
        return bool(self.neighbour_bonus) and self.method != "sample"

    @property
    def unread(self) -> dict[str, str]:
        """The weights that this method does not use although they are set, and why."""
        ranked = f"it ranks the captions of a beam, and search.method is {self.method}"
        drawn = "samples are drawn without it; choose another search.method"
        reasons = {"consensus": (self.compares_images, ranked), "neighbour_bonus": (self.gives_bonuses, drawn)}
        return {key: reason for key, (used, reason) in reasons.items() if getattr(self, key) and not used}


def fitting(value: Any, key: str, method: str | None) -> Any:
    """Check that `value` is given if, and only if, `method` uses the key; returns it."""
    if method is None:  # invalid itself, which is reported first
        return value
    if value is None and key in NEEDED[method]:
        raise PydanticCustomError("needed", f"search.method {method} needs it")
    if value is not None and key not in keys_of(method):
        others = " and ".join(other for other in NEEDED if key in keys_of(other))
        nothing = f"it does nothing with search.method {method}, but with {others}"
        raise PydanticCustomError("unused", f"{nothing}; leave it out (in params.yaml: null)")
    return value


class SearchParams(SearchSection):
    """All settings of the search. They are part of the model: `evaluate` writes them into the bundle that it scored."""

    beam: BeamWidth

    @field_validator("beam")
    @classmethod
    def _width_fits(cls, value: int | None, info: ValidationInfo) -> int | None:
        method, groups = info.data.get("method"), info.data.get("groups")
        if method == "greedy" and value == 1:  # greedy is a beam of 1
            return value
        if value is not None and groups is not None and value % groups:
            raise PydanticCustomError("groups", f"cannot be cut into search.groups, {groups}, of the same width")
        return fitting(value, "beam", method)

    @classmethod
    def of(cls, beam: int | None, section: SearchSection) -> "SearchParams":
        """The sections `beam` and `search` of params.yaml in one object; `UserError` where they do not fit each
        other."""
        return _validated({**section.model_dump(), "beam": beam})

    def override(self, **changes: Any) -> "SearchParams":
        """These settings with single fields replaced; `UserError` naming a field that is unknown or out of range.

        Changing the method also sets that method's defaults, and removes the settings that it does not use.
        """
        content, method = {**self.model_dump(), **changes}, changes.get("method", self.method)
        if method != self.method and method in NEEDED:
            read = keys_of(method)
            for key in OWN:
                if key not in changes:
                    content[key] = content[key] if key in read else None
            for key in NEEDED[method]:
                if content[key] is None and key not in changes:
                    content[key] = content["beam"] if key == "groups" else USUAL[key]
        return _validated(content)

    @property
    def needs_images(self) -> str | None:
        """The name of a setting that no search can do without training images; None: there is none."""
        uses = {
            "consensus": self.compares_images,
            "neighbour_ngrams": bool(self.neighbour_ngrams),
            "neighbour_bonus": self.gives_bonuses,
        }
        return next((key for key, used in uses.items() if used), None)

    def uses_images(self, detects: bool) -> bool:
        """Whether it uses training images; `detects`: the model has a detector of words, which else they replace."""
        return self.needs_images is not None or (bool(self.detection_weight) and not detects)

    @property
    def most(self) -> int:
        """The greatest number of captions of an image that this search can find."""
        return {"greedy": 1, "sample": MOST}.get(self.method, self.ends)

    @property
    def ends(self) -> int:
        """The number of beams that may finish."""
        return round((self.beam or 1) * (self.patience or 1))

    def check_n_best(self, n_best: int) -> None:
        """`UserError` when the search cannot find `n_best` captions."""
        if not isinstance(n_best, Integral):
            raise UserError(f"n_best = {n_best!r}: must be a whole number")
        if not 1 <= n_best <= self.most:
            if self.method == "greedy":
                raise UserError(f"n_best = {n_best}: greedy gives one caption of an image")
            width = "the width of the beam, " if "beam" in self.method else ""
            width = "beam x patience, " if self.patience else width
            raise UserError(f"n_best = {n_best}: must be 1 to {width}{self.most}")

    def described(self) -> str:
        """A short description of these settings."""
        if self.method == "diverse_beam":
            return f"diverse beam {self.beam} in {self.groups} groups, diversity {self.diversity:g}"
        if self.method == "sample":
            limits = f", top-k {self.top_k}" * (self.top_k is not None) + f", top-p {self.top_p}" * bool(self.top_p)
            return f"sampled, temperature {self.temperature:g}{limits}, seed {self.seed}"
        return f"beam {self.beam}" if self.method == "beam" else self.method


def _validated(content: dict[str, Any]) -> SearchParams:
    try:
        return SearchParams.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key, message = one_line(".".join(map(str, first["loc"]))), first["msg"]
        if first["type"] == "extra_forbidden":
            known = ", ".join(SearchParams.model_fields)
            raise UserError(f"{key} is not a setting of the search; there are {known}") from None
        value = "null" if first["input"] is None else one_line(repr(first["input"]))
        raise UserError(f"{key} = {value}: {message[0].lower()}{message[1:]}") from None


# For a model that was not evaluated and has no settings: a beam whose captions are ranked by log probability alone,
# without the word detector and other images, and in which no word is forbidden but <unk>.
PLAIN = SearchParams(
    method="beam", beam=5, min_length=1, max_length=30, length_penalty=0.0, block_ngrams=0, allow_unknown=False,
    detection_weight=0.0, consensus=0.0, precision="fp32",
)  # fmt: skip


class SweepParams(Section):
    """The settings that `evaluate` compares on val."""

    beams: list[Width] = Field(min_length=1, description="widths to try")
    length_penalties: list[LengthPenalty] = Field(min_length=1, description="penalties to try")
    others: list[dict[str, Any]] | None = Field(description="further ones: what each changes of beam and search")

    @field_validator("others")
    @classmethod
    def _are_settings(cls, others: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
        unknown = sorted({key for changes in others or [] for key in changes} - SearchParams.model_fields.keys())
        if unknown:
            known = ", ".join(SearchParams.model_fields)
            reason = f"{one_line(unknown[0])} is not a setting of the search; there are {known}"
            raise PydanticCustomError("search", "{reason}", {"reason": reason})
        return others

    def settings(self, search: SearchParams) -> list[SearchParams]:
        """All settings to compare, with the other fields from `search`; `search` itself is among them.

        `UserError` for values out of range, and for those that do nothing beside the others.
        """
        beams = [
            search.override(method="beam", beam=beam, length_penalty=penalty)
            for penalty in self.length_penalties
            for beam in self.beams
        ]
        try:
            found = beams + [search.override(**changes) for changes in self.others or []]
        except UserError as error:
            raise UserError(f"params.yaml: sweep.others: {error}") from None
        return found if search in found else [*found, search]
