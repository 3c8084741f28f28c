"""How fine-tuning jobs wait: what a request asks for, and what an answer reports of it."""
