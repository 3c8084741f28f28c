"""Read back what was exported, as transformers and PEFT do, in a process of its own: it needs torch and memory."""
