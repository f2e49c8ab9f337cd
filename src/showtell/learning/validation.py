"""How good the network is now: captions of val generated the way users will see them, and the loss on given ones."""

from collections.abc import Callable

import torch

from showtell.core.errors import UserError
from showtell.core.precision import autocast, device
from showtell.core.processes import all_gather, broadcast
from showtell.core.progress import log
from showtell.data.batches import CaptionedImages, every_image
from showtell.data.vocabulary import Vocabulary
from showtell.generation.captioner import search_captions
from showtell.learning.caption_task import CaptionParams, CaptionTask
from showtell.learning.losses import top_accuracy
from showtell.metrics.bleu import Bleu
from showtell.metrics.cider import CiderD
from showtell.metrics.tokenisation import PTB, tokenisation_for

BATCH = 128  # images decoded side by side; bounds memory, changes no result


def validation(
    network: CaptionTask, dataset: CaptionedImages, vocabulary: Vocabulary, params: CaptionParams
) -> Callable[[], dict[str, float]]:
    """A function that scores `network` on the val images: CIDEr-D (unscaled) and BLEU-4 (fraction) of generated
    captions, mean loss (nats a word) and top-5 accuracy (fraction) on the given captions.

    `UserError` for fewer than two images: CIDEr-D needs them.
    """
    if len(dataset) < 2:
        raise UserError(
            f"val has {len(dataset)} image(s): CIDEr-D, which is computed on val after every epoch, needs at least "
            "two; give val more images (scenes.val, custom.val, or the split in the captions file)"
        )
    tokenisation = tokenisation_for(text for entry in dataset.entries for text in entry["references"])
    if tokenisation is not PTB:
        log(f"val is scored on {tokenisation.text}")
    references = {entry["image_id"]: tokenisation.tokenize_all(entry["references"]) for entry in dataset.entries}
    longest = max(len(tokens) for entry in dataset.entries for tokens in entry["tokens"])  # nothing longer is learnt
    cider, bleu = CiderD(references), Bleu(references)

    @torch.inference_mode()
    def validate() -> dict[str, float]:
        network.eval()
        parts = []
        for batch in every_image(dataset, BATCH):
            batch = batch.to(device())
            with autocast(params.precision):
                features = network.features(batch.images)
            decoded, targets = network.decoder(features, batch.inputs, batch.mask), batch.targets[batch.mask]
            loss = float(torch.nn.functional.cross_entropy(decoded.logits, targets, reduction="sum"))
            right = int(top_accuracy(decoded.logits, targets, among=5))
            found = search_captions(network.decoder, features, params.validation_beam, longest)
            parts.append((loss, right, len(targets), [vocabulary.caption(best.tokens) for best, *_ in found]))
        everything = all_gather(parts)
        return broadcast(lambda: judged(everything))

    def judged(parts: list[tuple[float, int, int, list[str]]]) -> dict[str, float]:
        loss, right, positions = (sum(column) for column in list(zip(*parts, strict=True))[:3])
        tokens = tokenisation.tokenize_all([caption for *_, captions in parts for caption in captions])
        hypotheses = {entry["image_id"]: caption for entry, caption in zip(dataset.entries, tokens, strict=True)}
        return {
            "val_loss": loss / max(positions, 1),
            "val_top5": right / max(positions, 1),
            "cider": float(cider.score(hypotheses)[0]),
            "bleu4": float(bleu.score(hypotheses)[0][3]),
        }

    return validate
