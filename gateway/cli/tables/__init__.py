"""Tables and pages of fields as lines of text, for people at a terminal and for programs behind a pipe."""
