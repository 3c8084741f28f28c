"""The formats that gateway and trainer share: specs of jobs, training files, fingerprints."""
