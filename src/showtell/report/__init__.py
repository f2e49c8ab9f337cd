"""One page that shows an evaluation: scores, curves, the decoding sweep, and every test image to look at."""

from showtell.report.data import ReportData, ReportImage
from showtell.report.nearest import Nearest, TrainingCaptions
from showtell.report.write import write_report

__all__ = ["Nearest", "ReportData", "ReportImage", "TrainingCaptions", "write_report"]
