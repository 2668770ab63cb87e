"""How well a clustering agrees with known classes, and how compact it is: the metric table.

All is computed on the host: torch tensors and arrays on a device are copied there.
"""

from gpukmeans.evaluation.classes import cluster_class_counts, cluster_names, majority_classes, matched_classes
from gpukmeans.evaluation.comparisons import Compared, Comparison, algorithms, compare, reductions, starts
from gpukmeans.evaluation.flows import Flow, flow
from gpukmeans.evaluation.layouts import layout
from gpukmeans.evaluation.margins import Margins, margins
from gpukmeans.evaluation.member_rows import ClusterMembers, Members, members
from gpukmeans.evaluation.naming import Accuracy, ClusterNames, name_clusters
from gpukmeans.evaluation.silhouettes import Silhouette, silhouette
from gpukmeans.evaluation.sweeps import Sweep, sweep
from gpukmeans.evaluation.table import Evaluation, evaluate
from gpukmeans.evaluation.train_test import Judged, TrainTest, train_test

__all__ = [
    "Accuracy",
    "ClusterMembers",
    "ClusterNames",
    "Compared",
    "Comparison",
    "Evaluation",
    "Flow",
    "Judged",
    "Margins",
    "Members",
    "Silhouette",
    "Sweep",
    "TrainTest",
    "algorithms",
    "cluster_class_counts",
    "cluster_names",
    "compare",
    "evaluate",
    "flow",
    "layout",
    "majority_classes",
    "margins",
    "matched_classes",
    "members",
    "name_clusters",
    "reductions",
    "silhouette",
    "starts",
    "sweep",
    "train_test",
]
