"""Reports: rows of results, rendered to the terminal and to self-contained HTML pages."""
