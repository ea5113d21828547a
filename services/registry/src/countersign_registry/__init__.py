"""The registry: which agents and people there are, what status they have, and which credentials are theirs."""
