"""The admin API: adapters, rollouts, jobs, replicas, audit."""
