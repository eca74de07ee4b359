"""The digits under their former name; they live in `runtime.models.datasets.digits`."""

from runtime.models.datasets.digits import CLASSES, IMAGE_SIDE, NUM_TEST, NUM_VALIDATION, enlarge, load_splits

__all__ = ["CLASSES", "IMAGE_SIDE", "NUM_TEST", "NUM_VALIDATION", "enlarge", "load_splits"]
