"""What the paper says, a module per section: keys, texts and tables, put into a ``report.numbers.Numbers``."""
