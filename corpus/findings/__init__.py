"""What is looked for in the texts of a row."""
