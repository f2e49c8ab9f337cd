"""A page that shows an evaluation: scores, learning curves, the decoding sweep, and every test image."""

from showtell.evaluation.report.content import ReportData, ReportImage
from showtell.evaluation.report.nearest import Nearest, TrainingCaptions
from showtell.evaluation.report.report_writer import write_report

__all__ = ["Nearest", "ReportData", "ReportImage", "TrainingCaptions", "write_report"]
