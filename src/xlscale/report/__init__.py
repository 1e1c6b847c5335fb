"""What is shown and said: numbers, labels, tables, figures and the paper. What is computed from a record lies below."""
