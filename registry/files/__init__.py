"""Files: stored whole or in parts, kept until they are deleted or expire."""
