"""The processes that carry out orders: one for an order, or one for all light jobs on a base model."""
