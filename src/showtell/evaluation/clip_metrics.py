"""CLIPScore and RefCLIPScore of the captions of a split, from the stored images."""

from dataclasses import replace

from PIL import Image

from showtell.core.progress import log
from showtell.data.batches import CaptionedImages
from showtell.evaluation.judge import EvaluateParams, Evaluation
from showtell.generation.captioner import Captioner
from showtell.metrics.clip_score import KEYS, kinship, load_clip, score_with


def with_clipscore(
    evaluation: Evaluation, data: CaptionedImages, params: EvaluateParams, captioner: Captioner
) -> Evaluation:
    """The evaluation with both metrics, by the CLIP that `params` names; None where it names none.

    Logs a warning where the captioner's encoder is a CLIP, too.
    """
    if params.clip is None:
        return replace(evaluation, metrics={**evaluation.metrics, **dict.fromkeys(KEYS)})
    clip = load_clip(*params.clip)
    if warning := kinship(captioner.model.encoder.name, params.clip[0]):
        log(f"evaluate: {warning}")
    images = (Image.fromarray(data.store.rows([row])[0].transpose(1, 2, 0)) for row in range(len(data)))
    references = (entry["references"] for entry in evaluation.entries)
    more = score_with(clip, images, (caption.text for caption in evaluation.best), references)
    return replace(
        evaluation,
        scores=evaluation.scores.with_more(more, f"by {clip.name}"),
        measured={**evaluation.measured, **more},
        metrics={**evaluation.metrics, **{key: metric.score for key, metric in more.items()}},
    )
