"""Probes of frozen features: linear, nearest neighbours, few labels, and published protocols by name."""

from geo3d.probes.few_shot import Episode, episodes, few_label_accuracy, few_shot_accuracy
from geo3d.probes.knn import knn_accuracy
from geo3d.probes.linear import LinearSVM, LogisticRegression, choose_C
from geo3d.probes.protocols import PROTOCOLS, Protocol, evaluate, protocol
from geo3d.probes.summary import compare, paired_gain, summarise

__all__ = [
    "PROTOCOLS",
    "Episode",
    "LinearSVM",
    "LogisticRegression",
    "Protocol",
    "choose_C",
    "compare",
    "episodes",
    "evaluate",
    "few_label_accuracy",
    "few_shot_accuracy",
    "knn_accuracy",
    "paired_gain",
    "protocol",
    "summarise",
]
