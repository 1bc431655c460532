"""Who or what wrote a mail: person, responder, machine, list, bounce (behaviour.md 2.1 steps 3, 5; 2.2 E26-E29, E42)."""
