"""Scores of a causal language model: perplexity on texts, and agreement of greedy answers.

The modules import nothing but PyTorch, because they also run in the environment of a tool.
"""
