"""A tool that pays, with an argument that nobody may see: what approvers narrow."""

from __future__ import annotations

TOOL = """
kind: tool
name: pay
description: Pay somebody.
effect: write
idempotent: false
resource: accounts/{to}
preview: "Pay {amount} to {to}"
arguments:
  type: object
  additionalProperties: false
  required: [amount, to]
  properties:
    amount: {type: integer, minimum: 1}
    to: {type: string}
    pin: {type: string, x-sensitive: true}
http: {method: POST, url: "URL/pay/{to}", path: [to], body: [amount, pin], allow_private: true}
"""
RULE = """
kind: approval_rule
name: payments
match: {tools: [pay], environments: [prod]}
stages: [{name: bank, approvers: [anyone], quorum: QUORUM}]
changes: {amount: lower}
"""
PAY = {"amount": 100, "to": "ann", "pin": "hunter2"}
