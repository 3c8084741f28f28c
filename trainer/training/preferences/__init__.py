"""Parts of all methods that learn preferences: rows, logprobs of answers, the reference, and the losses."""
