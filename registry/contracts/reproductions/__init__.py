"""Running the job of a result again: its spec, and the report on what came of it."""
