"""The changes of the tables, a file each."""
