"""The comparative study: experiment, findings, figures, page; data flows in this order and never back."""
