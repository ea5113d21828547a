"""What `make test-compose` is made of: a project on a real engine, and what it must show."""
