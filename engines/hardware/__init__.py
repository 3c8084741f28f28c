"""The machine (`probe`), the memory that a base model takes (`shape`, `memory`), and the engine that serves it there
(`choice`). All but `probe` is pure."""
