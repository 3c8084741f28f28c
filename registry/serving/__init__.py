"""What serves: replicas as they report themselves, engines entered by hand, and the demand for revisions."""
