"""Scores and pictures of trained models."""
