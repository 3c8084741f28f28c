"""Which steps of a run are kept, served and published."""
