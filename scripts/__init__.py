"""What a person runs. Each script is a file of its own and a subcommand of `metarl`."""
