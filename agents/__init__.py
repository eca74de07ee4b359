"""Policies, learned and heuristic: an observation goes in, a decision comes out."""
