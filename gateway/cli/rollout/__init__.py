"""`lorry rollout` and `lorry rollback`: commands, plans, and how a rollout is shown."""
