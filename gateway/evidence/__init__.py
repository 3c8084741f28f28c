"""Evidence on which rollouts are judged: facts of answers, their sums, and copies for a shadow step."""
