"""What gateway and trainer agree on: specs of jobs, training files, fingerprints."""
