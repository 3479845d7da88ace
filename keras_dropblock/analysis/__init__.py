"""Scores, sizes and plots of networks."""
