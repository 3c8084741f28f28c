"""Requests of a dialect on the hot path: translated before the intake reads them, their answers translated back."""
