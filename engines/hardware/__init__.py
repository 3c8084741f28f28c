"""What machine this is (`probe`), what a base model takes of it (`shape`, `memory`), and which engine serves it there
(`choice`). All but `probe` is pure."""
