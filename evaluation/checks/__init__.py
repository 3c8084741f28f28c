"""Checks of single answers: what a suite may ask for, and the functions that decide."""
