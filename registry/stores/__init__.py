"""Places of artifacts: a folder that processes of one machine share, or a bucket with a cache on each machine."""
