"""Base models that were pulled from a hub: their record, their files, their removal."""
