"""Playing scenarios, scoring policies and telling people what came of it."""
