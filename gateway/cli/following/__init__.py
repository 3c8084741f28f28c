"""Lines that commands show while they wait: rewritten in a terminal, appended elsewhere."""
