"""The commands, by what they are about; each imports its work when it runs."""
