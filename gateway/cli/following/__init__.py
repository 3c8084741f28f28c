"""What commands show while they wait: lines that are rewritten in a terminal and appended elsewhere."""
