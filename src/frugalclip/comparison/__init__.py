"""Arms, trials and what their records allow to be said."""
