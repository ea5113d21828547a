"""The policy service: decides every action, counts guardrails, and is the only issuer of warrants."""
