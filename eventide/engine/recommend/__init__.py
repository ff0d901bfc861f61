"""From facts about a task and a machine to a configuration, with the reason for each choice."""
