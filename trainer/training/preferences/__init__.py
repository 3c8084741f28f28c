"""What the methods that learn preferences share: rows, logprobs of answers, the reference, and the losses."""
