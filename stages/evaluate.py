"""evaluate: captions of test and their scores; the only stage that reads the test references."""

from showtell.core import paths
from showtell.core.files import read_json, write_json, write_json_list
from showtell.core.params import load
from showtell.core.processes import is_main, launch
from showtell.data.batches import captioned_images
from showtell.data.datasets.source import DatasetName
from showtell.encoders.encoder_params import EncoderParams
from showtell.evaluation.attention_pictures import write_attention
from showtell.evaluation.clip_metrics import with_clipscore
from showtell.evaluation.confidence_fit import calibration_errors, fit_confidence, reliability_rows, sureness
from showtell.evaluation.judge import EvaluateParams, describe, evaluate, sweep, unseen_part
from showtell.evaluation.known_objects import held_out_metrics, in_view
from showtell.evaluation.model_card import Facts, write_card
from showtell.evaluation.remember import Memory
from showtell.evaluation.report.evaluated import report_evaluation
from showtell.evaluation.slices import slice_rows
from showtell.evaluation.summary import provenance, scores, summary
from showtell.generation.bundle import serve_model
from showtell.generation.search_params import BeamWidth, SearchParams, SearchSection, SweepParams
from showtell.learning.curves import write_table


def main() -> str | None:
    search, params = SearchParams.of(load(BeamWidth), load(SearchSection)), load(EvaluateParams)
    tried = load(SweepParams).settings(search)
    train, val, test = map(captioned_images, paths.SPLITS)
    memory = Memory(train, paths.split_features("train"), params.remembered)
    captioner = memory.captioner(paths.REINFORCE_MODEL, search, params.folders(), tried)
    known = in_view(read_json(paths.OBJECTS), captioner.model.transform)
    swept, on_val = sweep(captioner, val, known, tried)
    captioner.confidence = confidence = fit_confidence(on_val)
    last = evaluate(captioner, test, known, params.captions, meteor=is_main())
    frozen = evaluate(memory.captioner(paths.TRAIN_MODEL, search), test, known, n_best=1).metrics
    unseen, sure = unseen_part(last, known), sureness(confidence, last.judged(known))
    if not is_main():
        return None
    last = with_clipscore(last, test, params, captioner)
    kept = params.folders(), confidence, captioner.neighbours_in_use
    serve_model(paths.REINFORCE_MODEL, paths.MODEL, search, last.metrics, *kept)
    write_json_list(paths.HYPOTHESES, last.hypotheses())
    more = {**held_out_metrics(last.by_image, known, train.entries), **calibration_errors(sure)}
    write_json(paths.METRICS / "evaluate.json", scores(last, frozen, unseen, more))
    write_table("sweep", swept)
    write_table("reliability", reliability_rows(sure))
    write_table("slices", slices := slice_rows(last, captioner.model.vocabulary, known), first="by")
    write_json(paths.METRICS / "intervals.json", intervals := last.intervals())
    write_json(paths.METRICS / "behaviour.json", habits := describe(last, captioner, train.entries))
    write_attention(paths.ATTENTION, test, last.best, params.pictures)
    tables = {"intervals": intervals, "behaviour": habits, "sweep": swept, "sure": sure, "slices": slices}
    tables["others"] = {"After train, encoder frozen": frozen} | ({"Unseen pairs": unseen.metrics} if unseen else {})
    report_evaluation(load(DatasetName), last, test, train.entries, known, captioner, **tables)
    write_json(paths.METRICS / "provenance.json", made := provenance(load(DatasetName), test, captioner, __file__))
    write_card(paths.MODEL, Facts(load(EncoderParams), train.entries, val.entries, last, intervals, captioner, made))
    return summary(last, frozen, intervals, captioner)


if __name__ == "__main__":
    launch(main, memory="lower beam and sweep.beams")
