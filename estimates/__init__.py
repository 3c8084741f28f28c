"""Memory and time of a training job or an engine before it starts, from the model's `config.json` alone.

Everything here is pure: no clock, no network, no torch. Formulas name their sources where they stand.
"""
