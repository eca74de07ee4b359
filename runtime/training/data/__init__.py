"""Labelled examples divided among the clients of a training job."""
