"""All SQL on the ledger: `fence` stamps, `claims` picks and claims, `settling` ends a claim, `state` looks."""
