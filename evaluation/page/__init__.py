"""The report on an evaluation as one HTML page that stands alone."""
