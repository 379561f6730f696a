"""Estimates for large fleets, by simulation: nothing here runs a model."""
