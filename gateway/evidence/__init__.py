"""What rollouts are judged on: facts of answers, sums of them, and copies for a shadow step."""
