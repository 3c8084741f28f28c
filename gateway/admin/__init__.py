"""The operator's face: adapters, rollouts, jobs, replicas, audit."""
