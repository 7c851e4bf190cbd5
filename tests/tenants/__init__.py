"""A project of django-tenants: a schema for each tenant, with a ledger and a folder of its own."""
