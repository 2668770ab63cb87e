"""Pictures of a clustering: its centroids as images or features, and which class went to which cluster."""

from gpukmeans.plots.centroids import centroid_grid
from gpukmeans.plots.comparisons import comparison_figure
from gpukmeans.plots.confusion import confusion_heatmap
from gpukmeans.plots.features import feature_heatmap
from gpukmeans.plots.figure import require_matplotlib, save_png
from gpukmeans.plots.flows import flow_figure
from gpukmeans.plots.points import point_map
from gpukmeans.plots.sweeps import sweep_figure
from gpukmeans.plots.train_test import train_test_figure

__all__ = [
    "centroid_grid",
    "comparison_figure",
    "confusion_heatmap",
    "feature_heatmap",
    "flow_figure",
    "point_map",
    "require_matplotlib",
    "save_png",
    "sweep_figure",
    "train_test_figure",
]
