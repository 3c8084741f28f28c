"""The judge of a rollout (pure), and its simulator."""
