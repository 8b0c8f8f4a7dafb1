"""The page: findings and figures, put into words and written as HTML and Markdown."""
