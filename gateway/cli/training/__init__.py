"""Commands around training: files and results; `lorry train` and `lorry jobs` stand beside."""
