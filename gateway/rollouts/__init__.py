"""The controller that moves rollouts, the judge that it asks, and the webhooks that report the moves."""
