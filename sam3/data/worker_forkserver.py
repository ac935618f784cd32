"""Imported, before anything else, by the process that loader workers are forked from, and by nobody else."""

from sam3.data.worker_signals import ignore_stop_signals

ignore_stop_signals()
