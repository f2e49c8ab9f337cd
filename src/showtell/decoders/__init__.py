"""The decoders by name. A new decoder is one file and one entry here (CONTRIBUTING.md)."""

from showtell.decoders.attention import AttentionDecoder
from showtell.decoders.decoder_params import DecoderParams
from showtell.decoders.injection import InitInjectDecoder, PreInjectDecoder
from showtell.decoders.interface import Decoded, Decoder, DecoderStep, State
from showtell.decoders.transformer import TransformerDecoder

DECODERS: dict[str, type[Decoder]] = {
    "attention": AttentionDecoder,
    "pre_inject": PreInjectDecoder,
    "init_inject": InitInjectDecoder,
    "transformer": TransformerDecoder,
}


def build_decoder(params: DecoderParams, channels: int, words: int) -> Decoder:
    """The decoder of params.yaml for features of `channels` channels and a vocabulary of `words`."""
    return DECODERS[params.kind](params, channels, words)


__all__ = ["DECODERS", "Decoded", "Decoder", "DecoderParams", "DecoderStep", "State", "build_decoder"]
