"""bench: what penstock costs, as whole processes against a bare floor in the same run. `make bench` writes the page."""
