"""Reports: what the theory of a paper says, and what runs found, as pictures and numbers."""
