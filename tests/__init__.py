"""Tests, in the shape of the packages; what they share lies beside this file."""
